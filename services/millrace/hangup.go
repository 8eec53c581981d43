package main

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.uber.org/fx"

	"millrace/events"
)

// reload is what a part of the process does on SIGHUP: it closes and opens what it holds open, and reads again what it has
// read at the start.
type reload struct {
	part string
	do   func() error
}

// asReloads adds the constructor's reloads to those that SIGHUP runs.
func asReloads(constructor any, params ...string) any {
	return fx.Annotate(constructor, fx.ParamTags(params...), fx.ResultTags(`group:"reloads,flatten"`))
}

// hangup makes SIGHUP run all reloads. In every role, even one without reloads, SIGHUP never ends the process.
func hangup() fx.Option {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // from now on, so that a signal during the start does not end the process either
	return fx.Invoke(fx.Annotate(func(lc fx.Lifecycle, log *slog.Logger, reloads []reload) {
		var running sync.WaitGroup
		lc.Append(fx.StartStopHook(func() {
			running.Go(func() {
				for range hangups {
					runReloads(log, reloads)
				}
			})
		}, func() {
			signal.Stop(hangups)
			close(hangups)
			running.Wait()
		}))
	}, fx.ParamTags(``, ``, `group:"reloads"`)))
}

func runReloads(log *slog.Logger, reloads []reload) {
	log.Info("SIGHUP: files are reopened and settings in files read again", "parts", len(reloads))
	for _, r := range reloads {
		if err := r.do(); err != nil {
			log.Error("a part could not reload and goes on as it was", "part", r.part, "error", err)
		}
	}
}

// reloadHandlers returns the reloads of the handlers that hold something open.
func reloadHandlers(handlers []events.Handler) []reload {
	var reloads []reload
	for _, h := range handlers {
		if h.Reopen != nil {
			reloads = append(reloads, reload{h.Name, h.Reopen})
		}
	}
	return reloads
}
