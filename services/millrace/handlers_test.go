package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/infra/pubsub"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// listHandlers returns the rows of `handlers --json` by handler.
func listHandlers(t *testing.T, brokers string) map[string]handlerRow {
	t.Helper()
	out, err := run(t, "handlers", "--json", brokers)
	require.NoError(t, err)
	rows := make(map[string]handlerRow)
	for lines := json.NewDecoder(strings.NewReader(out)); lines.More(); {
		var row handlerRow
		require.NoError(t, lines.Decode(&row))
		rows[row.Handler] = row
	}
	return rows
}

// readers returns the handlers that read the messages.
func readers(t *testing.T, brokers []string) []string {
	t.Helper()
	var names []string
	for name, row := range listHandlers(t, "--kafka-brokers="+strings.Join(brokers, ",")) {
		if row.Topic == events.TopicMessages && row.State == running {
			names = append(names, name)
		}
	}
	require.Subset(t, names, []string{"storage", "push", "audit"})
	return names
}

func TestEndToEndSecondVersionOfAHandlerIsReplayedFromWhereItIsToldAndTheFirstRetired(t *testing.T) {
	besideOthers(t)
	dir := t.TempDir()
	var bus pubsub.Bus
	d := startDevWith(t, dir, fx.Populate(&bus))
	brokers := "--kafka-brokers=" + strings.Join(d.brokers, ",")
	a := proof.Join(t, d.url(), proof.Alice, nil)
	var places []string // of the messages, as partition:offset
	for i := range 5 {
		a.Sends(t, client.ToUser(proof.Bob), strconv.Itoa(i))
		pos := a.Sees(t, "new_message").Pos
		at, err := events.ParsePosition(pos)
		require.NoError(t, err)
		places = append(places, strconv.Itoa(int(at.Partition))+":"+strconv.FormatInt(events.Offset(at.Seq), 10))
	}

	worker := func(args ...string) (stop func()) {
		options, err := roleNamed(t, config.Worker).appOptions(parse(t, config.Worker, append([]string{
			"--handlers=audit,analytics", "--admin-addr=", "--log-level=error", "--data-dir=" + dir, brokers, "--mongodb-uri=",
		}, args...)...))
		require.NoError(t, err)
		app, err := startApp(t.Context(), options)
		require.NoError(t, err)
		return func() { require.NoError(t, stopApp(context.WithoutCancel(t.Context()), app)) }
	}
	lines := func(file string) int {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return 0
		}
		return strings.Count(string(data), "\n")
	}
	eventually := func(file string, want int) {
		t.Helper()
		require.Eventually(t, func() bool { return lines(file) == want }, proof.Patience, 10*time.Millisecond)
	}
	stop := worker("--version=2", "--from="+places[2])
	eventually("audit-v2.log", 3)
	eventually("audit.log", 5)
	counts := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool { return d.counted(t, "--version=2") == want }, proof.Patience, 20*time.Millisecond)
	}
	counts(3)
	require.Eventually(t, func() bool {
		row := listHandlers(t, brokers)["audit-v2"]
		return row.State == running && row.Members == 1 && *row.Lag == 0
	}, proof.Patience, 10*time.Millisecond)
	stop()
	a.Sends(t, client.ToUser(proof.Bob), "later")
	row := listHandlers(t, brokers)["audit-v2"]
	require.Equal(t, stopped, row.State)
	require.Equal(t, int64(1), *row.Lag)
	stop = worker("--version=2", "--from=earliest")
	eventually("audit-v2.log", 4)
	counts(4)
	stop()
	stop = worker("--version=3", "--from=1h")
	eventually("audit-v3.log", 6)

	require.NoError(t, bus.Publisher().Publish(events.TopicMessages, message.NewMessage("", []byte("garbage"))))
	require.Eventually(t, func() bool { return listHandlers(t, brokers)["audit-v3"].Poisoned == 1 }, proof.Patience, 10*time.Millisecond)

	_, err := run(t, "handlers", "retire", "audit", "--version=3", "--yes", brokers)
	require.ErrorContains(t, err, "the consumer group audit-v3-consumer-group has members")
	stop()
	_, err = run(t, "handlers", "retire", "audit", "--version=3", brokers)
	require.ErrorContains(t, err, "say --yes")
	require.Contains(t, listHandlers(t, brokers), "audit-v3")
	said, err := run(t, "handlers", "retire", "audit", "--version=3", "--yes", brokers)
	require.NoError(t, err)
	require.Contains(t, said, "audit-v3 is retired")
	require.Contains(t, said, "the poison queue still has 1 record of it")
	said, err = run(t, "poison", "replay", "--handler=audit-v3", brokers)
	require.ErrorContains(t, err, `audit-v3 takes no replays, for its consumer group "audit-v3-consumer-group" does not exist`)
	require.Contains(t, said, "0 records replayed")
	require.NotContains(t, listHandlers(t, brokers), "audit-v3")
	others, err := groupsOf(t.Context(), bus.Groups(), events.TopicMessages, []string{"audit-consumer-group"})
	require.NoError(t, err)
	require.Subset(t, others, []string{"audit-v2-consumer-group", "push-consumer-group", "storage-consumer-group"}, "whose lag a message node measures")
	require.NotContains(t, others, "audit-v3-consumer-group")
	_, err = run(t, "handlers", "retire", "audit", "--version=3", "--yes", brokers)
	require.ErrorContains(t, err, "there is no consumer group audit-v3-consumer-group")
	_, err = run(t, "handlers", "retire", "audit", "--yes", brokers)
	require.ErrorContains(t, err, "has members")
	_, err = run(t, "handlers", "retire", "storage", "--yes", brokers)
	require.ErrorContains(t, err, "storage cannot be retired")
}

func TestHandlersAreListedAndWatchedUntilInterrupted(t *testing.T) {
	besideOthers(t)
	d := startDev(t, t.TempDir())
	brokers := "--kafka-brokers=" + strings.Join(d.brokers, ",")
	require.Eventually(t, func() bool { return listHandlers(t, brokers)["audit"].State == running }, proof.Patience, 10*time.Millisecond)
	out, err := run(t, "handlers", brokers)
	require.NoError(t, err)
	require.Regexp(t, `(?m)^HANDLER +STATE +MEMBERS +LAG +POISONED +TOPIC +GROUP$`, out)
	require.Regexp(t, `(?m)^storage +running +1 +0 +0 +message-events +storage-consumer-group$`, out)

	ctx, interrupt := context.WithCancel(t.Context())
	watching := newRootCommand()
	tables := make(writes, 1)
	watching.SetOut(tables)
	watching.SetArgs([]string{"handlers", "--watch", "--json", brokers})
	ended := make(chan error, 1)
	go func() { ended <- watching.ExecuteContext(ctx) }()
	require.Contains(t, <-tables, `"handler":"analytics"`)
	interrupt()
	for {
		select {
		case <-tables: // the rest of the first list
		case err := <-ended:
			require.NoError(t, err)
			return
		}
	}
}

// writes passes on what is written.
type writes chan string

func (w writes) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}
