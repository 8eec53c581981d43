package telemetry

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/grpclog"
)

// CaptureLibraries sends into the log what Go's own packages, gRPC and OpenTelemetry would else write to standard error in
// forms of their own. Each has one logger for a whole process, so main calls it, before anything uses them.
func CaptureLibraries(log *slog.Logger) {
	slog.SetDefault(log)
	grpclog.SetLoggerV2(grpcLog{log.With("library", "grpc")})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		writeLine(log.With("library", "opentelemetry"), slog.LevelWarn, err.Error())
	}))
}

// ServerErrors is the error log of an HTTP server. Handshakes that fail are for debugging, since anybody can make them
// fail; the rest, such as a lack of open files, is a warning.
func ServerErrors(to *slog.Logger) *log.Logger {
	return log.New(serverErrors{to.With("library", "net/http")}, "", 0)
}

type serverErrors struct{ log *slog.Logger }

func (w serverErrors) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if strings.HasPrefix(string(line), "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	writeLine(w.log, level, string(line))
	return len(line), nil
}

// grpcLog takes what gRPC calls errors for warnings, and all else for debugging: whoever made the call gets the error
// itself and says what follows from it.
type grpcLog struct{ log *slog.Logger }

var _ grpclog.LoggerV2 = grpcLog{}

func (l grpcLog) Info(args ...any)   { writeLine(l.log, slog.LevelDebug, fmt.Sprint(args...)) }
func (l grpcLog) Infoln(args ...any) { writeLine(l.log, slog.LevelDebug, fmt.Sprintln(args...)) }
func (l grpcLog) Infof(format string, args ...any) {
	writeLine(l.log, slog.LevelDebug, fmt.Sprintf(format, args...))
}
func (l grpcLog) Warning(args ...any)                 { l.Info(args...) }
func (l grpcLog) Warningln(args ...any)               { l.Infoln(args...) }
func (l grpcLog) Warningf(format string, args ...any) { l.Infof(format, args...) }
func (l grpcLog) Error(args ...any)                   { writeLine(l.log, slog.LevelWarn, fmt.Sprint(args...)) }

func (l grpcLog) Errorln(args ...any) { writeLine(l.log, slog.LevelWarn, fmt.Sprintln(args...)) }

func (l grpcLog) Errorf(format string, args ...any) {
	writeLine(l.log, slog.LevelWarn, fmt.Sprintf(format, args...))
}

// Fatal implements grpclog.LoggerV2, which demands that the process ends.
func (l grpcLog) Fatal(args ...any) { l.fatal(fmt.Sprint(args...)) }

// Fatalln is like Fatal.
func (l grpcLog) Fatalln(args ...any) { l.fatal(fmt.Sprintln(args...)) }

// Fatalf is like Fatal.
func (l grpcLog) Fatalf(format string, args ...any) { l.fatal(fmt.Sprintf(format, args...)) }

// V implements grpclog.LoggerV2.
func (l grpcLog) V(int) bool { return l.log.Enabled(context.Background(), slog.LevelDebug) }

func (l grpcLog) fatal(line string) {
	writeLine(l.log, slog.LevelError, line)
	os.Exit(1)
}

func writeLine(log *slog.Logger, level slog.Level, line string) {
	log.Log(context.Background(), level, strings.TrimSpace(line)) //nolint:sloglint // the message is the library's
}
