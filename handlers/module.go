// Package handlers lists the handlers. Each handler is a package whose fx module adds an [events.Handler] to the group
// "handlers", and has one line here.
package handlers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/audit"
	"millrace/handlers/push"
	"millrace/handlers/storage"
)

// handler repeats what the events.Handler of the module says, for programs that do not run it: its name, its topic and why it
// takes no replays.
type handler struct {
	name     string
	topic    string
	noReplay string
	module   fx.Option
}

func all() []handler {
	return []handler{
		{name: "audit", topic: events.TopicMessages, module: audit.Module},
		{name: "push", topic: events.TopicMessages, noReplay: push.NoReplay, module: push.Module},
		{name: "storage", topic: events.TopicMessages, module: storage.Module},
	}
}

// Groups returns the consumer groups of all handlers by topic, whether or not the handlers run in this process.
func Groups() map[string][]string {
	groups := map[string][]string{}
	for _, h := range all() {
		groups[h.topic] = append(groups[h.topic], h.name+"-consumer-group")
	}
	return groups
}

// Names returns the names of all handlers.
func Names() []string {
	var names []string
	for _, h := range all() {
		names = append(names, h.name)
	}
	return names
}

// NoReplay returns, by name, why a handler cannot handle a replay from the poison queue. Handlers that can are absent.
func NoReplay() map[string]string {
	reasons := map[string]string{}
	for _, h := range all() {
		if h.noReplay != "" {
			reasons[h.name] = h.noReplay
		}
	}
	return reasons
}

// Check returns an error that tells which of the names are no handler's.
func Check(names ...string) error {
	var unknown []error
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			unknown = append(unknown, fmt.Errorf("unknown handler %q: known are %s", name, strings.Join(Names(), ", ")))
		}
	}
	return errors.Join(unknown...)
}

// Module provides the named handlers and makes no others. An unknown name is an error.
func Module(names ...string) (fx.Option, error) {
	if err := Check(names...); err != nil {
		return nil, err
	}
	var modules []fx.Option
	for _, h := range all() {
		if slices.Contains(names, h.name) {
			modules = append(modules, h.module)
		}
	}
	return fx.Module("handlers", modules...), nil
}
