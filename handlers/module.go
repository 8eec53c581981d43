// Package handlers lists the handlers: each is one package with an fx module that adds an [events.Handler] to the group
// "handlers", and one line here.
package handlers

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/fx"

	"millrace/handlers/audit"
	"millrace/handlers/push"
	"millrace/handlers/storage"
)

type handler struct {
	name   string
	module fx.Option
}

func all() []handler {
	return []handler{
		{"audit", audit.Module},
		{"push", push.Module},
		{"storage", storage.Module},
	}
}

// Names are the names of all handlers.
func Names() []string {
	var names []string
	for _, h := range all() {
		names = append(names, h.name)
	}
	return names
}

// Module provides the handlers named; nothing of the others is made. An unknown name is an error.
func Module(names ...string) (fx.Option, error) {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("unknown handler %q: known are %s", name, strings.Join(Names(), ", "))
		}
	}
	var modules []fx.Option
	for _, h := range all() {
		if slices.Contains(names, h.name) {
			modules = append(modules, h.module)
		}
	}
	return fx.Module("handlers", modules...), nil
}
