package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/handlers"
	"millrace/infra/config"
	"millrace/infra/poison"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/kafka"
)

// connectTimeout is how long a command tries to reach the broker, because somebody waits for the command.
const connectTimeout = 5 * time.Second

// poisonOptions say which entries of which queue a subcommand of poison is about.
type poisonOptions struct {
	cfg          config.Config
	bus          pubsub.Bus // set by read
	topic        string
	since, until string
	filter       poison.Filter
	all, dryRun  bool
}

func newPoisonCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "poison",
		Short: "Look at records that could not be handled, and replay or discard them",
		Long: `Look at the poison queue of a topic, where records go that a handler cannot handle, and replay them once the reason is gone.

A replay goes to the handler that had poisoned the record, and to no other, as if it were at its original position: what was
stored since stays in order. A misplaced record, which had no valid position, is sent home instead: to the partition of its
conversation, as a new record for all handlers. What was replayed is listed with --replayed only, and is not replayed again;
a record that fails again is a new entry.

What is "stuck: …" failed for a minute while other records were handled, and was put aside so that they go on. It is
replayed by itself, about every minute, until it is handled.

The queue holds at most the first bytes of a value of more than 256 KiB. Such a record is shown and replayed from the topic,
as long as retention keeps it there.

Clients that are connected do not see a replay: they are past its position. What storage gets is in the history. Edits and
recalls of a message that came while it was in the queue are replayed after it.`,
		Args: cobra.ArbitraryArgs,
		RunE: wantsSubcommand,
	}
	cmd.AddCommand(newPoisonListCommand(), newPoisonShowCommand(), newPoisonReplayCommand(), newPoisonDiscardCommand())
	return cmd
}

func (o *poisonOptions) bindQueue(cmd *cobra.Command) {
	o.cfg.BindLog(cmd.Flags())
	cmd.Flags().StringVar(&o.topic, "topic", events.TopicMessages, "topic whose poison queue is meant")
}

func (o *poisonOptions) bindFilter(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.filter.Handler, "handler", "", "of this handler")
	f.StringVar(&o.filter.Reason, "reason", "", "with this in the reason")
	f.StringVar(&o.since, "since", "", "poisoned at or after: 1h ago, or 2006-01-02T15:04:05Z")
	f.StringVar(&o.until, "until", "", "poisoned at or before, likewise")
}

// bindChoice adds the flags of a command that changes the chosen entries.
func (o *poisonOptions) bindChoice(cmd *cobra.Command) {
	o.bindQueue(cmd)
	o.bindFilter(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, "all that match, without a filter the whole queue")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only list the records")
}

// choose requires that the flags say which entries are meant. The filter selects them.
func (o *poisonOptions) choose(cmd *cobra.Command, ids []string) (queue *poison.Queue, entries []*poison.Entry, closeBus func(), err error) {
	if !o.all && len(ids) == 0 && o.filter.Handler == "" && o.filter.Reason == "" && o.since == "" && o.until == "" {
		return nil, nil, nil, errors.New("say which records: some ids, a filter, or --all")
	}
	if queue, entries, closeBus, err = o.read(cmd); err != nil {
		return nil, nil, nil, err
	}
	if err := missing(ids, entries); err != nil {
		closeBus()
		return nil, nil, nil, err
	}
	o.filter.IDs = ids
	return queue, entries, closeBus, nil
}

// read returns the queue and all of its entries. The function that it returns disconnects.
func (o *poisonOptions) read(cmd *cobra.Command) (queue *poison.Queue, entries []*poison.Entry, closeBus func(), err error) {
	if err := o.check(cmd); err != nil {
		return nil, nil, nil, err
	}
	bus, err := openBus(cmd, &o.cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	o.bus = bus
	closeBus = func() { _ = bus.Close() } // everything published is acknowledged by then
	ctx, cancel := context.WithTimeout(cmd.Context(), startTimeout)
	defer cancel()
	queue = poison.New(bus, o.topic)
	if entries, err = queue.Entries(ctx); err != nil {
		closeBus()
		return nil, nil, nil, err
	}
	return queue, entries, closeBus, nil
}

// openBus connects a command to the log.
func openBus(cmd *cobra.Command, cfg *config.Config) (pubsub.Bus, error) {
	c, err := kafkaConfig(cfg, cfg.KafkaBrokers, cmd.Name())
	if err != nil {
		return nil, err
	}
	c.Groups = handlers.Groups()
	ctx, cancel := context.WithTimeout(cmd.Context(), connectTimeout)
	defer cancel()
	return kafka.NewBus(ctx, c, slog.New(slog.DiscardHandler))
}

func (o *poisonOptions) check(cmd *cobra.Command) error {
	err := o.cfg.Load(cmd.Flags())
	if poisoned := events.PoisonTopic(o.topic); !slices.Contains(events.Topics(), poisoned) && !events.IsRoute(o.topic) {
		err = errors.Join(err, fmt.Errorf("--topic=%s has no poison queue", o.topic))
	}
	var sinceErr, untilErr error
	o.filter.Since, sinceErr = parseTime("since", o.since)
	o.filter.Until, untilErr = parseTime("until", o.until)
	if err = errors.Join(err, sinceErr, untilErr); err != nil {
		return usageError{err}
	}
	return nil
}

// parseTime reads a time, or a duration that it counts back from now.
func parseTime(flag, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if at, err := time.Parse(layout, value); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s=%s: want a duration such as 1h, or a time such as 2006-01-02T15:04Z", flag, value)
}

// missing returns the ids that no entry has.
func missing(ids []string, entries []*poison.Entry) error {
	var unknown []string
	for _, id := range ids {
		if !slices.ContainsFunc(entries, func(e *poison.Entry) bool { return e.ID == id }) {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("not in the poison queue: %s", strings.Join(unknown, ", "))
	}
	return nil
}

// counted returns the number with its noun in the singular or plural.
func counted(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
