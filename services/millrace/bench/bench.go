// Package bench is the load generator. It measures a running server through real WebSockets, and checks that the server
// loses, doubles and reorders nothing.
package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/security"
	"millrace/services/client"
)

type benchOptions struct {
	url          string
	files        security.TLSFiles
	secure       *tls.Config // for a wss:// URL
	secret       string
	mode         string
	firstUser    int64
	pairs        int
	window       int
	size         int
	duration     time.Duration
	count        int
	manyPairs    int
	members      int
	clients      int
	missed       int
	connections  int
	admin        string
	serialCount  int
	against      string
	againstAdmin string
	rounds       int
	patience     time.Duration
	json         bool
}

const (
	modeSerial = "serial"
	modeLoad   = "load"
	modeMany   = "many"
	modeFanout = "fanout"
	modeResume = "resume"
	modeIdle   = "idle"
	modeBoth   = "both"
	modeAll    = "all"
	// untimedSerial messages warm up the connection before latencies count.
	untimedSerial = 100
	// tokenLife is how long the tokens are valid that are signed here.
	tokenLife = 24 * time.Hour
)

// NewCommand returns the command `bench`, which measures and checks a running server.
func NewCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a running server, and check that it loses nothing",
		Long: `Measure a running server through real WebSockets, and check that nothing is lost, doubled or out of order: every message
accepted must be pushed to all its users once and be in the history once, in one order. Anything else is printed and exits 1.

  serial  one pair, one message in flight: the next one is sent when the last one was accepted and has arrived
  load    pairs that each have a number of messages in flight (sent and not yet accepted)
  many    far more pairs, each with one message in flight
  fanout  a group in which all members are connected and one of them sends; the latency of deliveries is that to one member
  resume  clients that were away while messages were sent to them, and come back with their cursors all at once; delivered/s
          and the latency of deliveries count from then
  idle    connections on which nothing is sent: how fast they come, and how much more memory the server has with them; the
          server must have just started, and one round is made. It is not among both and all.

accepted/s and delivered/s run from the first send to the last answer or push. stored/s runs until the last message can be read
from history, which is asked every 20 ms once all are accepted; afterwards the whole history is read back and compared.

Tokens are signed with --token-secret or MILLRACE_JWT_SECRET; without it they are asked from the server, which only
"millrace dev" answers.

With --against=URL two systems that run side by side are compared. In each round every mode runs against both, one after
the other, and which one goes first changes from round to round; so what slows the machine down meets both. Printed are the
medians over the rounds, and the median of the rounds' ratios of --url to --against. With --against-admin each run waits
until the handlers of both systems are done with what came before, so that neither works in the other's time.`,
		Example: "  millrace bench --mode=load --duration=30s --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := o.check(); err != nil {
				return err
			}
			if o.secure, err = o.files.LoadClient(o.url); err != nil {
				return err
			}
			if o.mode == modeIdle {
				return o.runIdle(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			if o.against != "" {
				return o.compare(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			report, err := o.run(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := report.print(cmd.OutOrStdout(), o.json); err != nil {
				return err
			}
			if report.Violations > 0 {
				return fmt.Errorf("%w: %d violations", errBroken, report.Violations)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "ws://127.0.0.1:8080/ws", "where the gateway is: ws:// or wss://")
	o.files.BindClient(f)
	f.StringVar(&o.secret, "token-secret", os.Getenv("MILLRACE_JWT_SECRET"), "secret to sign tokens with; MILLRACE_JWT_SECRET")
	f.StringVar(&o.mode, "mode", modeBoth, "serial, load, many, fanout, resume, idle, both (serial and load) or all (but idle)")
	f.Int64Var(&o.firstUser, "first-user", 9_000_001, "id of the first user; the others follow")
	f.IntVar(&o.pairs, "pairs", 50, "load: pairs of users")
	f.IntVar(&o.window, "in-flight", 16, "load, fanout: messages of a sender in flight, at most 200")
	f.IntVar(&o.size, "size", 100, "bytes of content")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "load, many, fanout: how long to send")
	f.IntVar(&o.count, "count", 0, "load, many, fanout: messages of each sender, in place of a duration")
	f.IntVar(&o.manyPairs, "many-pairs", 2000, "many: pairs of users")
	f.IntVar(&o.members, "members", 1000, "fanout: members of the group, all of them connected")
	f.IntVar(&o.clients, "clients", 1000, "resume: clients that were away")
	f.IntVar(&o.missed, "missed", 100, "resume: messages that each has missed, at most 1000")
	f.IntVar(&o.connections, "connections", 10_000, "idle: connections")
	f.StringVar(&o.admin, "admin", "http://127.0.0.1:9100", "idle, and where --against-admin is set: admin address of the system")
	f.IntVar(&o.serialCount, "serial-count", 3000, "serial: messages")
	f.DurationVar(&o.patience, "patience", 15*time.Second, "give up when nothing has moved for so long")
	f.StringVar(&o.against, "against", "", "gateway of another system to compare with")
	f.StringVar(&o.againstAdmin, "against-admin", "", "idle, and else to let the systems settle: admin address of the other system")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of a comparison")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.Lookup("token-secret").DefValue = "" // help must not print the secret
	return cmd
}

// errBroken is the error for a server that broke a promise.
var errBroken = errors.New("the server broke its promises")

func (o benchOptions) check() error {
	var errs []error
	if !slices.Contains([]string{modeSerial, modeLoad, modeMany, modeFanout, modeResume, modeIdle, modeBoth, modeAll}, o.mode) {
		errs = append(errs, fmt.Errorf("--mode=%s: want serial, load, many, fanout, resume, idle, both or all", o.mode))
	}
	if o.missed < 1 || o.missed > 1000 {
		errs = append(errs, fmt.Errorf("--missed=%d: want 1 to 1000, which a client gets without history", o.missed))
	}
	for flag, pairs := range map[string]int{"pairs": o.pairs, "many-pairs": o.manyPairs, "clients": o.clients} {
		if pairs < 1 || pairs > 10_000 {
			errs = append(errs, fmt.Errorf("--%s=%d: want 1 to 10000", flag, pairs))
		}
	}
	if o.members < 3 || o.members > events.MaxGroupMembers {
		errs = append(errs, fmt.Errorf("--members=%d: want 3 to %d", o.members, events.MaxGroupMembers))
	}
	if o.connections < 1 || o.connections > 100_000 {
		errs = append(errs, fmt.Errorf("--connections=%d: want 1 to 100000", o.connections))
	}
	if o.mode == modeIdle && o.against != "" && o.againstAdmin == "" {
		errs = append(errs, errors.New("--against-admin: missing"))
	}
	if o.rounds < 1 {
		errs = append(errs, fmt.Errorf("--rounds=%d: want at least 1", o.rounds))
	}
	if o.window < 1 || o.window > maxPage {
		errs = append(errs, fmt.Errorf("--in-flight=%d: want 1 to %d", o.window, maxPage))
	}
	if o.size < minBenchSize || o.size > events.MaxContentBytes {
		errs = append(errs, fmt.Errorf("--size=%d: want %d to %d", o.size, minBenchSize, events.MaxContentBytes))
	}
	if o.count < 0 || o.serialCount < 1 || o.count == 0 && o.duration <= 0 || o.patience <= 0 {
		errs = append(errs, errors.New("--count, --serial-count, --duration, --patience: want more than 0"))
	}
	if last := o.firstUser + 2*int64(o.pairs+o.manyPairs+o.clients) + int64(o.members) + 1; o.firstUser < 1 || last > events.MaxID {
		errs = append(errs, fmt.Errorf("--first-user=%d: ids are from 1 to %d", o.firstUser, int64(events.MaxID)))
	}
	return errors.Join(errs...)
}

// modes returns the modes to run, one after the other.
func (o benchOptions) modes() []string {
	switch o.mode {
	case modeBoth:
		return []string{modeSerial, modeLoad}
	case modeAll:
		return []string{modeSerial, modeLoad, modeMany, modeFanout, modeResume}
	}
	return []string{o.mode}
}

func (o benchOptions) tokens() client.TokenSource {
	source := client.TokenSource{URL: o.url, TLS: o.secure}
	if o.secret != "" {
		source.Sign = func(user int64) (string, error) {
			return auth.Sign(o.secret, auth.Identity{User: user, Expires: time.Now().Add(tokenLife)})
		}
	}
	return source
}

// run runs the modes one after the other. It stops at the first that finds the server broken.
func (o benchOptions) run(ctx context.Context, progress io.Writer) (benchReport, error) {
	// It is part of every name, so that messages of earlier runs do not count as ours.
	id := strings.ToLower(rand.Text()[:10])
	serial := &benchRun{
		name: modeSerial, first: o.firstUser, pairs: 1, window: 1, count: o.serialCount,
		untimed: min(untimedSerial, o.serialCount/2), lockstep: true,
	}
	load := &benchRun{
		name: modeLoad, first: o.firstUser + 2, pairs: o.pairs, window: o.window, count: o.count, duration: o.duration,
	}
	many := &benchRun{
		name: modeMany, first: load.first + 2*int64(o.pairs), pairs: o.manyPairs, window: 1, count: o.count, duration: o.duration,
	}
	fanout := &benchRun{
		name: modeFanout, first: many.first + 2*int64(o.manyPairs), pairs: 1, members: o.members, window: o.window,
		count: o.count, duration: o.duration,
	}
	resume := &benchRun{
		name: modeResume, first: fanout.first + int64(o.members), pairs: o.clients, window: 1, count: o.missed, away: true,
	}
	for _, r := range []*benchRun{load, many, fanout} {
		if r.count > 0 {
			r.duration = 0
		} else {
			r.count = maxLoadCount
		}
	}
	report := benchReport{URL: o.url, Run: id}
	for _, r := range []*benchRun{serial, load, many, fanout, resume} {
		if !slices.Contains(o.modes(), r.name) {
			continue
		}
		r.options, r.id, r.progress = o, id, progress
		result, err := r.run(ctx)
		if err != nil {
			return report, fmt.Errorf("%s: %w", r.name, err)
		}
		report.Results = append(report.Results, result)
		if report.Violations += len(result.Violations); report.Violations > 0 {
			break
		}
	}
	return report, nil
}

// maxLoadCount bounds what one pair sends in a run with a duration.
const maxLoadCount = 1 << 30

func (b benchReport) print(w io.Writer, asJSON bool) error {
	if !asJSON {
		return b.table(w)
	}
	return printJSON(w, b)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
