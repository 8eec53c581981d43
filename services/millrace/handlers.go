package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/handlers"
	"millrace/infra/config"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
)

// watchInterval is the pause between the tables of --watch.
const watchInterval = 2 * time.Second

func newHandlersCommand() *cobra.Command {
	var (
		cfg           config.Config
		asJSON, watch bool
	)
	cmd := &cobra.Command{
		Use:   "handlers",
		Short: "List the handlers with their lag, their state and what they have poisoned; retire one",
		Long: `List all handlers, and further versions of them that the log knows of: which topic each reads and in which consumer group,
how many records it has yet to handle, whether processes run it (running, with how many), or did (stopped), or never have,
and how many of its records wait in the poison queue.`,
		Example: `  millrace handlers --watch
  millrace handlers retire audit --version=2`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wantsSubcommand(cmd, args)
			}
			if err := cfg.Load(cmd.Flags()); err != nil {
				return usageError{err}
			}
			bus, err := openBus(cmd, &cfg)
			if err != nil {
				return err
			}
			defer func() { _ = bus.Close() }() // nothing was published
			list := handlerList{bus: bus, poisoned: make(map[string]poisoned)}
			return repeatedly(cmd, watch, asJSON, func() error {
				rows, err := list.rows(cmd.Context())
				switch {
				case err != nil:
					return err
				case asJSON:
					return printRowsJSON(cmd.OutOrStdout(), rows)
				}
				return printRows(cmd.OutOrStdout(), rows)
			})
		},
	}
	cfg.BindLog(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "print again every 2 s until interrupted")
	cmd.AddCommand(newHandlersRetireCommand())
	return cmd
}

// handlerRow is what the list says about a handler.
type handlerRow struct {
	Handler string `json:"handler"`
	Group   string `json:"group"`
	Topic   string `json:"topic"`
	State   string `json:"state"`
	Members int    `json:"members"`
	Lag     *int64 `json:"lag,omitempty"` // in records; nil if it never ran
	// Written is how many records the topic has had in its present epochs, and Handled up to where the group is done with them.
	Written  int64 `json:"-"`
	Handled  int64 `json:"-"`
	Poisoned int   `json:"poisoned"`
	// Failed is how many of its records have come into the poison queue, as far as it still has them, and OldestPoisoned when the
	// oldest was poisoned of those that were not replayed.
	Failed         int       `json:"-"`
	OldestPoisoned time.Time `json:"-"`
}

// The states of a handler.
const (
	running  = "running"
	stopped  = "stopped"
	neverRan = "never ran"
)

type handlerList struct {
	bus      pubsub.Bus
	poisoned map[string]poisoned // by topic
}

// poisoned is what the poison queue has of each handler up to its end.
type poisoned struct {
	end       map[int32]int64
	byHandler map[string]poisonedBy
}

// poisonedBy is how many entries of a handler wait, how many there are with those that were replayed, and when the oldest of
// those that wait was made.
type poisonedBy struct {
	waiting, all int
	oldest       time.Time
}

func (p *poisonedBy) add(e *poison.Entry) {
	p.all++
	if e.Replayed {
		return
	}
	p.waiting++
	if !e.Time.IsZero() && (p.oldest.IsZero() || e.Time.Before(p.oldest)) {
		p.oldest = e.Time
	}
}

func (l *handlerList) rows(ctx context.Context) ([]handlerRow, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	members, err := l.bus.Groups().List(ctx, func(group string) bool {
		_, _, ok := handlers.Of(group)
		return ok
	})
	if err != nil {
		return nil, err
	}
	groups := slices.Concat(slices.Collect(maps.Keys(members)), slices.Concat(slices.Collect(maps.Values(handlers.Groups()))...))
	slices.Sort(groups)
	var rows []handlerRow
	for _, group := range slices.Compact(groups) {
		name, topic, _ := handlers.Of(group)
		row := handlerRow{Handler: name, Group: group, Topic: topic, State: neverRan, Members: members[group]}
		if n, known := members[group]; known {
			if row.State = stopped; n > 0 {
				row.State = running
			}
			if err := row.measure(ctx, l.bus.Log(topic)); err != nil {
				return nil, err
			}
		}
		failures, err := l.poisonedBy(ctx, topic, name)
		if err != nil {
			return nil, err
		}
		row.Poisoned, row.Failed, row.OldestPoisoned = failures.waiting, failures.all, failures.oldest
		rows = append(rows, row)
	}
	return rows, nil
}

// measure finds out how many records of the topic the group has yet to commit.
func (r *handlerRow) measure(ctx context.Context, log pubsub.Log) error {
	committed, err := log.Committed(ctx, r.Group) // before the end, because it only grows
	if err != nil {
		return err
	}
	end, err := log.End(ctx)
	if err != nil {
		return err
	}
	r.Lag = new(int64)
	for p, through := range end {
		*r.Lag += events.Range{Partition: p, After: committed[p], Through: through}.Len()
		r.Written += through - events.EpochStart(through)
		r.Handled += committed[p] - events.EpochStart(committed[p])
	}
	return nil
}

// poisonedBy returns what the queue has of the handler. It reads the queue again only if that has grown.
func (l *handlerList) poisonedBy(ctx context.Context, topic, handler string) (poisonedBy, error) {
	end, err := l.bus.Log(events.PoisonTopic(topic)).End(ctx)
	if err != nil {
		return poisonedBy{}, err
	}
	known, ok := l.poisoned[topic]
	if !ok || !maps.Equal(end, known.end) {
		entries, err := poison.New(l.bus, topic).Entries(ctx)
		if err != nil {
			return poisonedBy{}, err
		}
		known = poisoned{end: end, byHandler: make(map[string]poisonedBy)}
		for _, e := range entries {
			of := known.byHandler[e.Handler]
			of.add(e)
			known.byHandler[e.Handler] = of
		}
		l.poisoned[topic] = known
	}
	return known.byHandler[handler], nil
}

func printRowsJSON(w io.Writer, rows []handlerRow) error {
	encoder := json.NewEncoder(w)
	for i := range rows {
		if err := encoder.Encode(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func printRows(w io.Writer, rows []handlerRow) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HANDLER\tSTATE\tMEMBERS\tLAG\tPOISONED\tTOPIC\tGROUP")
	for _, r := range rows {
		lag := "-"
		if r.Lag != nil {
			lag = strconv.FormatInt(*r.Lag, 10)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%s\t%s\n", r.Handler, r.State, r.Members, lag, r.Poisoned, r.Topic, r.Group)
	}
	return table.Flush()
}
