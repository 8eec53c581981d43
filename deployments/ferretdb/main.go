// Command ferretdb serves the MongoDB wire protocol from SQLite files, for tests on a machine without MongoDB. It listens
// on a free port of loopback, by TLS if it is given PEM files, prints its URI on one line, and ends when its standard
// input does, so that it never outlives the tests that started it.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	listener := ferretdb.ListenerConfig{TCP: "127.0.0.1:0"}
	switch len(os.Args) {
	case 2:
	case 5:
		listener = ferretdb.ListenerConfig{
			TLS: "127.0.0.1:0", TLSCertFile: os.Args[2], TLSKeyFile: os.Args[3], TLSCAFile: os.Args[4],
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: ferretdb DIRECTORY [CERTIFICATE KEY AUTHORITIES-OF-CLIENTS]")
		os.Exit(2)
	}
	if err := serve(os.Args[1], listener); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func serve(dir string, listener ferretdb.ListenerConfig) error {
	server, err := ferretdb.New(&ferretdb.Config{
		Listener: listener,
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Handler:  "sqlite",
		// FerretDB requires the slash at the end.
		SQLiteURL: "file:" + filepath.ToSlash(filepath.Clean(dir)) + "/",
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, os.Stdin) // an error is an end too
	}()
	go fmt.Println(server.MongoDBURI()) // waits until Run listens
	return server.Run(ctx)
}
