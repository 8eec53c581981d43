package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"millrace/handlers/analytics"
	"millrace/handlers/storage"
	"millrace/handlers/users"
	"millrace/handlers/webhook"
	"millrace/infra/admission"
	"millrace/infra/config"
	"millrace/infra/pubsub/kafka"
	"millrace/infra/store/mongo"
	"millrace/infra/store/sqlite"
	"millrace/services/api"
	"millrace/services/message"
)

// storeBackend is everything that the process needs of a store.
type storeBackend interface {
	storage.Store
	message.Store
	kafka.EpochStore
	analytics.Store
	message.Figures
	message.Erasing
	webhook.Store
	api.Store
	notifications
	EnableWebhook(ctx context.Context, name string) (was bool, err error)
	users.Store
	progressStore
	seenStore
	Ping(ctx context.Context) error
	Close() error
}

// storeFile is the name of SQLite's file in the data directory.
const storeFile = "millrace.db"

// openStore opens MongoDB if it is configured, otherwise SQLite.
func openStore(ctx context.Context, cfg *config.Config, waits *waits) (db storeBackend, err error) {
	if cfg.MongoDBURI != "" {
		err = waits.until(ctx, "MongoDB", func(ctx context.Context) ([]string, error) {
			return mongo.Hosts(ctx, cfg.MongoDBURI)
		}, func() (err error) {
			db, err = mongo.Open(ctx, cfg.MongoDBURI)
			return err
		})
		return db, err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return sqlite.Open(ctx, filepath.Join(cfg.DataDir, storeFile))
}

// dataStore opens the store and provides it to each user as the interface that the user declares.
func dataStore() fx.Option {
	return fx.Module("store", fx.Provide(
		func(ctx context.Context, lc fx.Lifecycle, cfg *config.Config, metrics prometheus.Registerer, waits *waits) (storeBackend, error) {
			db, err := openStore(ctx, cfg, waits)
			if err != nil {
				return nil, err
			}
			lc.Append(fx.StopHook(db.Close))
			return measureStore(metrics, db), nil
		},
		func(db storeBackend) (
			storage.Store, users.Store, message.Store, admission.Store, kafka.EpochStore, webhook.Store, analytics.Store,
		) {
			return db, db, db, db, db, db, db
		},
	))
}
