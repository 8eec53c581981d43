package main

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"

	"millrace/events"
	"millrace/infra/config"
	"millrace/infra/pubsub"
)

// offsets matches PARTITION:OFFSET with commas between.
var offsets = regexp.MustCompile(`^\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*$`)

// parseStart reads the setting --from.
func parseStart(from string) (pubsub.Start, error) {
	switch {
	case from == "" || from == "earliest":
		return pubsub.Start{}, nil
	case !offsets.MatchString(from):
		at, err := parseTime("from", from)
		if err != nil {
			err = fmt.Errorf("%w, earliest, or PARTITION:OFFSET with commas between", err)
		}
		return pubsub.Start{Time: at}, err
	}
	start := pubsub.Start{Offsets: make(map[int32]int64)}
	for place := range strings.SplitSeq(from, ",") {
		partition, offset, _ := strings.Cut(place, ":")
		p, _ := strconv.ParseInt(partition, 10, 32) // offsets lets only numbers through that fit
		o, _ := strconv.ParseInt(offset, 10, 64)
		if _, twice := start.Offsets[int32(p)]; twice {
			return pubsub.Start{}, fmt.Errorf("--from=%s names partition %d twice", from, p)
		}
		start.Offsets[int32(p)] = o
	}
	return start, nil
}

// begin makes the groups of the handlers begin where the configuration says, if they are new.
func begin(ctx context.Context, cfg *config.Config, bus pubsub.Bus, handlers []events.Handler, log *slog.Logger) error {
	start, err := parseStart(cfg.From)
	if err != nil || cfg.From == "" {
		return err
	}
	for _, h := range handlers {
		begun, err := bus.Groups().Begin(ctx, h.Group, h.Topic, start)
		if err == nil && begun {
			err = skip(ctx, bus.Log(h.Topic), &h)
		}
		if err != nil {
			return fmt.Errorf("%s (--from): %w", config.EnvName("from"), err)
		}
		if begun {
			log.Info("the new consumer group begins as configured", "group", h.Group, "from", cfg.From)
		} else {
			log.Info("the consumer group is not new and goes on where it was", "group", h.Group)
		}
	}
	return nil
}

// skip has the handler note that it is done with what lies before the beginning of its group.
func skip(ctx context.Context, log pubsub.Log, h *events.Handler) error {
	if h.Advance == nil {
		return nil
	}
	begins, err := log.Committed(ctx, h.Group)
	if err != nil {
		return err
	}
	for partition, seq := range begins {
		if err := h.Advance(ctx, events.Position{Partition: partition, Seq: seq}); err != nil {
			return err
		}
	}
	return nil
}
