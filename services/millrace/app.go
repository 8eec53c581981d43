package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
)

const (
	// startTimeout bounds the start of the parts, which have what they wait for by then.
	startTimeout = 30 * time.Second
	// stopTimeout is longer than what each part allows itself, so that fx never cuts one off.
	stopTimeout = 60 * time.Second
)

// runApp starts the modules, waits until the context ends or a part fails, and stops them in reverse order. The context that
// it supplies to them has ended before the first is stopped.
func runApp(ctx context.Context, options ...fx.Option) error {
	running, drain := context.WithCancel(ctx)
	defer drain()
	app, err := startApp(running, options...)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // the process was told to stop while it waited
	case err != nil:
		return err
	}
	var failure error
	select {
	case <-ctx.Done():
	case signal := <-app.Wait():
		if signal.ExitCode != 0 {
			failure = errors.New("a part of the process failed; the log says which")
		}
	}
	drain()
	return errors.Join(failure, stopApp(context.WithoutCancel(ctx), app))
}

func startApp(ctx context.Context, options ...fx.Option) (*fx.App, error) {
	app := fx.New(
		fx.Options(options...),
		fx.Supply(fx.Annotate(ctx, fx.As(new(context.Context)))),
		fx.StartTimeout(startTimeout),
		fx.StopTimeout(stopTimeout),
		fx.WithLogger(func(log *slog.Logger) fxevent.Logger {
			fxLog := &fxevent.SlogLogger{Logger: log}
			fxLog.UseLogLevel(slog.LevelDebug)
			fxLog.UseErrorLevel(slog.LevelDebug) // main prints what went wrong, in words
			return fxLog
		}),
	)
	if err := app.Err(); err != nil {
		return nil, dig.RootCause(err)
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := app.Start(starting); err != nil { // fx stops again what had started
		return nil, dig.RootCause(err)
	}
	return app, nil
}

func stopApp(ctx context.Context, app *fx.App) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := app.Stop(ctx); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// runs adapts a blocking run function to fx: it runs in a goroutine of its own, which fx waits for when it stops. If the
// function returns an error before it should, or panics, the whole process stops, because work that others rely on may be
// half done. The log has what another process needs to go on.
func runs(lc fx.Lifecycle, shutdown fx.Shutdowner, log *slog.Logger, name string, run func(context.Context) error, stop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				err := orPanic(ctx, run)
				if err != nil && ctx.Err() == nil {
					log.Error("a part has failed", "part", name, "error", err)
					_ = shutdown.Shutdown(fx.ExitCode(1)) // it fails only if the process is stopping already
				}
				done <- err
			}()
			return nil
		},
		OnStop: func(stopping context.Context) error {
			var err error
			if stop != nil {
				err = stop(stopping)
			}
			cancel()
			select {
			case ended := <-done:
				err = errors.Join(err, ended)
			case <-stopping.Done():
				err = errors.Join(err, fmt.Errorf("%s: %w", name, stopping.Err()))
			}
			return err
		},
	})
}

// orPanic runs the part and turns a panic into an error.
func orPanic(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return run(ctx)
}
