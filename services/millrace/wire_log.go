package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers"
	"millrace/infra/broker"
	"millrace/infra/config"
	"millrace/infra/pubsub"
	"millrace/infra/pubsub/kafka"
	"millrace/infra/telemetry"
)

// brokerAddrs are the addresses of the log's brokers.
type brokerAddrs []string

// embeddedBroker runs a broker in this process and uses it for the log.
func embeddedBroker() fx.Option {
	return fx.Module("broker", fx.Provide(
		func(lc fx.Lifecycle, cfg *config.Config, at *addresses, log *slog.Logger) (*broker.Broker, brokerAddrs, error) {
			b, err := broker.Start(broker.Config{
				Addr: cfg.EmbeddedKafkaAddr, DataDir: filepath.Join(cfg.DataDir, "kafka"), Log: log,
			})
			if err != nil {
				return nil, nil, err
			}
			at.set(partBroker, b.Addr())
			lc.Append(fx.StopHook(b.Close))
			return b, brokerAddrs{b.Addr()}, nil
		},
	))
}

// externalBroker uses the configured brokers for the log.
func externalBroker() fx.Option {
	return fx.Provide(func(cfg *config.Config) brokerAddrs { return cfg.KafkaBrokers })
}

// bus connects to the log; this is the line to change for another one. It needs the store for the epochs of positions.
func bus() fx.Option {
	return fx.Module("bus", fx.Provide(
		func(ctx context.Context, lc fx.Lifecycle, cfg *config.Config, addrs brokerAddrs, epochs kafka.EpochStore, metrics prometheus.Registerer, tracer *telemetry.Tracer, waits *waits, log *slog.Logger) (pubsub.Bus, error) {
			c, err := kafkaConfig(cfg, addrs, string(cfg.Role))
			if err != nil {
				return nil, err
			}
			c.Topics = slices.DeleteFunc(topicsOf(nil), func(topic string) bool { return !events.IsRoute(topic) })
			err = waits.until(ctx, "Kafka", at(addrs), func() (err error) {
				c.Partitions, err = kafka.EnsureTopics(ctx, c, log)
				return err
			})
			if err != nil {
				return nil, err
			}
			c.Epochs, c.Groups, c.Incident = epochs, handlers.Groups(), telemetry.Incidents(metrics)
			b, err := kafka.NewBus(ctx, c, log)
			if err != nil {
				return nil, err
			}
			lc.Append(fx.StopHook(b.Close))
			return telemetry.TraceBus(tracer, telemetry.MeasureBus(metrics, b)), nil
		},
	))
}

// kafkaConfig returns how the process reaches the brokers.
func kafkaConfig(cfg *config.Config, brokers []string, name string) (c kafka.Config, err error) {
	c = kafka.Config{
		Brokers: brokers, ClientID: "millrace-" + name, InstanceID: cfg.InstanceID,
		SASL:       kafka.SASL{Mechanism: cfg.KafkaSASL, User: cfg.KafkaSASLUser, Password: cfg.KafkaSASLPassword},
		Partitions: cfg.TopicPartitions, Replication: cfg.TopicReplication, MinISR: cfg.TopicMinISR,
	}
	c.TLS, err = kafkaTLS(cfg)
	return c, err
}

// kafkaTLS returns nil if the brokers are reached without TLS.
func kafkaTLS(cfg *config.Config) (*tls.Config, error) {
	if !cfg.KafkaTLS {
		return nil, nil
	}
	return cfg.KafkaTLSFiles.Load()
}
