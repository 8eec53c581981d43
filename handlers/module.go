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
	"millrace/handlers/analytics"
	"millrace/handlers/audit"
	"millrace/handlers/broadcast"
	"millrace/handlers/groups"
	"millrace/handlers/moderation"
	"millrace/handlers/notify"
	"millrace/handlers/push"
	"millrace/handlers/route"
	"millrace/handlers/storage"
	"millrace/handlers/users"
	"millrace/handlers/webhook"
)

// handler repeats what the events.Handler of the module says, for programs that do not run it: its name, its topic and why it
// takes no replays. noVersion says why there cannot be a second version of it beside the first; it is empty if there can.
type handler struct {
	name      string
	topic     string
	noReplay  string
	noVersion string
	// several says that the module provides any number of handlers, as its configuration says, each named after this one with
	// a hyphen and a name of its own.
	several bool
	// inStore says that its work is in the store, from which a backup may take it: who runs it gives it Progress and Advance. The
	// storage handler says itself how far it has come.
	inStore bool
	// beside is the handler that must run in the same process; it is empty if none must.
	beside string
	module fx.Option
}

// twice is why there is one version of what gateways get.
const twice = "gateways would get everything twice"

func all() []handler {
	return []handler{
		{name: analytics.Name, topic: events.TopicMessages, inStore: true, module: analytics.Module},
		{name: "audit", topic: events.TopicMessages, module: audit.Module},
		{name: groups.Name, topic: events.TopicMessages, noVersion: "every copy would be made twice", module: groups.Module},
		{name: moderation.Name, topic: events.TopicMessages, noVersion: "every recall would be published twice", module: moderation.Module},
		{name: broadcast.Notice, topic: events.TopicSystem, noVersion: twice, beside: "push", module: broadcast.NoticeModule()},
		{name: notify.Name, topic: events.TopicMessages, noReplay: notify.NoReplay, noVersion: "users would be notified twice", inStore: true, module: notify.Module},
		{name: audit.Operations, topic: events.TopicSystem, module: audit.OperationsModule()},
		{name: "push", topic: events.TopicMessages, noReplay: push.NoReplay, noVersion: twice, module: push.Module},
		{name: broadcast.Revocation, topic: events.TopicUsers, noVersion: twice, beside: "push", module: broadcast.RevocationModule()},
		{name: route.Name, topic: events.TopicMessages, noVersion: "every copy would be made twice", module: route.Module},
		{name: "storage", topic: events.TopicMessages, noVersion: "it would store into the same place", module: storage.Module},
		{name: "users", topic: events.TopicUsers, noVersion: "it would store into the same place", inStore: true, module: users.Module},
		{name: webhook.HandlerName, topic: events.TopicMessages, several: true, module: webhook.Module},
	}
}

// Group returns the consumer group of a handler.
func Group(name string) string { return name + groupSuffix }

const groupSuffix = "-consumer-group"

// Groups returns the consumer groups of all handlers by topic, whether or not the handlers run in this process. Those that only
// a configuration names are absent.
func Groups() map[string][]string {
	groups := map[string][]string{}
	for _, h := range all() {
		if !h.several {
			groups[h.topic] = append(groups[h.topic], Group(h.name))
		}
	}
	return groups
}

// Version returns the name of a version of a handler. The first one has the handler's own. Each has a consumer group of its
// own, and with it progress, marks and poisoned records of its own.
func Version(name string, version int) string {
	if version < 2 {
		return name
	}
	return fmt.Sprintf("%s-v%d", name, version)
}

// Of returns the name under which the group's handler runs, such as audit or audit-v2, and its topic. A handler that runs
// under several names appends to its own. It reports false if the group is no handler's.
func Of(group string) (name, topic string, ok bool) {
	name, ok = strings.CutSuffix(group, groupSuffix)
	if h := named(name); ok && h != nil {
		return name, h.topic, true
	}
	return "", "", false
}

// named returns the handler that runs under the name, or nil.
func named(name string) *handler {
	for _, h := range all() {
		if name == h.name || strings.HasPrefix(name, h.name+"-") {
			return &h
		}
	}
	return nil
}

// InStore reports whether what the group's handler has done is in the store, so that it is lost with the store. Storage, which
// says itself how far it has come, is not among them.
func InStore(group string) bool {
	name, _, ok := Of(group)
	return ok && named(name).inStore
}

// CheckRetire returns why the consumer group of the handler must stay, or nil.
func CheckRetire(name string) error {
	switch h := named(name); {
	case h == nil:
		return unknown(name)
	case h.noVersion != "":
		return fmt.Errorf("%s cannot be retired: no other version of it can take over", name)
	}
	return nil
}

func unknown(name string) error {
	return fmt.Errorf("unknown handler %q: known are %s", name, strings.Join(Names(), ", "))
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

// Check returns an error that tells which of the names are no handler's, which handlers cannot have that version, and which lack
// another handler beside them.
func Check(version int, names ...string) error {
	var faults []error
	for _, name := range names {
		i := slices.Index(Names(), name)
		switch {
		case i < 0:
			faults = append(faults, unknown(name))
		case version > 1 && all()[i].noVersion != "":
			faults = append(faults, fmt.Errorf("there is one version of %s alone: with another one beside it %s", name, all()[i].noVersion))
		case all()[i].beside != "" && !slices.Contains(names, all()[i].beside):
			faults = append(faults, fmt.Errorf("%s works only in a process that runs %s too", name, all()[i].beside))
		}
	}
	return errors.Join(faults...)
}

// Module provides that version of the named handlers and makes no others. It fails where [Check] does. Where a handler keeps
// something it must keep that under its [Version], which its configuration says.
func Module(version int, names ...string) (fx.Option, error) {
	if err := Check(version, names...); err != nil {
		return nil, err
	}
	var modules []fx.Option
	for _, h := range all() {
		if slices.Contains(names, h.name) {
			modules = append(modules, h.module)
		}
	}
	if version > 1 {
		modules = append(modules, fx.Decorate(fx.Annotate(func(handlers []events.Handler) []events.Handler {
			handlers = slices.Clone(handlers)
			for i := range handlers {
				handlers[i].Name = Version(handlers[i].Name, version)
				handlers[i].Group = Group(handlers[i].Name)
			}
			return handlers
		}, fx.ParamTags(`group:"handlers"`), fx.ResultTags(`group:"handlers"`))))
	}
	return fx.Options(modules...), nil
}
