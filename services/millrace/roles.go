package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/fx"

	"millrace/handlers"
	"millrace/infra/config"
	"millrace/infra/telemetry"
)

// role is one way to run the process.
type role struct {
	name    config.Role
	short   string
	long    string
	example string
	// options returns the role's parts in the order in which they start; they stop in reverse.
	options func(cfg *config.Config) (fx.Option, error)
	// hello prints where to find what has started.
	hello func(w io.Writer, cfg *config.Config, at *addresses)
}

func roles() []role {
	return []role{
		{
			name: config.Dev, short: "Run everything in one process, for development",
			long: `Run everything in one process: the embedded broker (unless MILLRACE_KAFKA_BROKERS names others), the message service, all
handlers and the gateway. Data stays in the data directory; stop it as you like, also with kill -9. Anybody may have a
token for any user from POST /dev/token, so it is for development alone.`,
			options: devOptions, hello: devHello,
		},
		{
			name: config.Broker, short: "Run the embedded Kafka broker alone",
			options: func(*config.Config) (fx.Option, error) {
				return fx.Options(embeddedBroker(), fx.Invoke(func(brokerAddrs) {}), brokerCheck()), nil
			},
			hello: func(w io.Writer, cfg *config.Config, at *addresses) {
				fmt.Fprintf(w, "Kafka broker on %s, data in %s\n", at.get(partBroker), cfg.DataDir)
			},
		},
		{
			name: config.Message, short: "Run a message node: the gRPC API and, by default, the handlers storage, push, users, notice, revocation and groups",
			long: `Run a message node: it accepts messages and answers history and what clients missed, and by default runs the storage and
push handlers. Any number of nodes share the work.`,
			example: "  millrace message --kafka-brokers=127.0.0.1:9092",
			options: messageOptions,
			hello: func(w io.Writer, cfg *config.Config, at *addresses) {
				fmt.Fprintf(w, "message service on %s, handlers %s\n", at.get(partGRPC), strings.Join(cfg.Handlers, ", "))
			},
		},
		{
			name: config.Connect, short: "Run a WebSocket gateway",
			example: "  millrace connect --message-addrs=127.0.0.1:9090,127.0.0.1:9091",
			options: func(*config.Config) (fx.Option, error) { return gateway(), nil },
			hello: func(w io.Writer, _ *config.Config, at *addresses) {
				fmt.Fprintf(w, "gateway on %s\n", at.get(partGateway))
			},
		},
		{
			name: config.Worker, short: "Run handlers alone",
			long: `Run the handlers named, each in its own consumer group: ` + strings.Join(handlers.Names(), ", ") + `. One that runs push
serves gateways too, on the message address: add it to their MILLRACE_PUSH_ADDRS. What notice and revocation have to say goes to
the gateways that are attached, so they run beside push.

With --version=2 they run as a second version beside the first: the consumer group is named audit-v2-consumer-group, a file
audit-v2.log. A group that is new begins where --from says. When the new version is found good, stop the old one and retire
it: millrace handlers retire audit.`,
			example: `  millrace worker --handlers=audit --kafka-brokers=127.0.0.1:9092
  millrace worker --handlers=audit --version=2 --from=2026-01-01T00:00Z`,
			options: workerOptions,
			hello: func(w io.Writer, cfg *config.Config, _ *addresses) {
				var names []string
				for _, name := range cfg.Handlers {
					names = append(names, handlers.Version(name, cfg.Version))
				}
				fmt.Fprintf(w, "handlers %s\n", strings.Join(names, ", "))
			},
		},
	}
}

func newRoleCommand(r role) *cobra.Command {
	var cfg config.Config
	cmd := &cobra.Command{
		Use: string(r.name), Short: r.short, Long: r.long, Example: r.example, GroupID: groupServers,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := errors.Join(cfg.Load(cmd.Flags()), handlers.Check(cfg.Version, cfg.Handlers...))
			if _, startErr := parseStart(cfg.From); startErr != nil {
				err = errors.Join(err, startErr)
			}
			if err != nil {
				return usageError{fmt.Errorf("cannot start with this configuration:\n%w", err)}
			}
			options, err := r.appOptions(&cfg)
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				stop := boundGarbage()
				defer stop()
			}
			log := newLog(&cfg)
			telemetry.CaptureLibraries(log)
			for _, name := range config.Unknown(os.Environ(), "token") { // the client's
				log.Warn("no setting has the name of this environment variable", "variable", name)
			}
			return runApp(cmd.Context(), options, fx.Invoke(func(lc fx.Lifecycle, at *addresses) {
				lc.Append(fx.StartHook(func() { r.hello(cmd.OutOrStdout(), &cfg, at) }))
			}))
		},
	}
	cfg.Bind(r.name, cmd.Flags())
	cmd.Long = strings.TrimSpace(cmd.Long + "\n\nEvery flag can be set by an environment variable too: --data-dir by MILLRACE_DATA_DIR.")
	return cmd
}

func (r role) appOptions(cfg *config.Config) (fx.Option, error) {
	options, err := r.options(cfg)
	if err != nil {
		return nil, err
	}
	return fx.Options(common(cfg), options), nil
}

func messageOptions(cfg *config.Config) (fx.Option, error) {
	handlers, err := runHandlers(cfg)
	if err != nil {
		return nil, err
	}
	return fx.Options(externalBroker(), dataStore(), bus(), logAndStoreChecks(), rulesFile(), messageService(), serveGRPC(), serveAPI(cfg), handlers), nil
}

func workerOptions(cfg *config.Config) (fx.Option, error) {
	handlers, err := runHandlers(cfg)
	if err != nil {
		return nil, err
	}
	options := []fx.Option{externalBroker(), dataStore(), bus(), logAndStoreChecks(), rulesFile(), handlers}
	if runsPush(cfg) {
		options = append(options, serveGRPC())
	}
	return fx.Options(options...), nil
}

func devOptions(cfg *config.Config) (fx.Option, error) {
	handlers, err := runHandlers(cfg)
	if err != nil {
		return nil, err
	}
	log := embeddedBroker()
	if len(cfg.KafkaBrokers) > 0 {
		log = externalBroker()
	}
	if cfg.JWTSecret == "" && cfg.JWKSURL == "" {
		if cfg.JWTSecret, err = devSecret(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	return fx.Options(log, dataStore(), bus(), logAndStoreChecks(), rulesFile(), messageService(), serveGRPC(), serveAPI(cfg), handlers, gateway()), nil
}

func devHello(w io.Writer, cfg *config.Config, at *addresses) {
	log := "embedded Kafka broker on " + at.get(partBroker)
	if len(cfg.KafkaBrokers) > 0 {
		log = "Kafka at " + strings.Join(cfg.KafkaBrokers, ", ")
	}
	data := cfg.DataDir
	if cfg.MongoDBURI != "" {
		data += ", messages in MongoDB"
	}
	admin := "nowhere"
	if address := at.dialled(partAdmin); address != "" {
		admin = "http://" + address + "/readyz"
	}
	api, console := "nowhere", "nowhere"
	if address := at.dialled(partAPI); address != "" {
		api, console = "http://"+address+"/openapi.json", "http://"+address+"/console/"
	}
	url, chat := "ws://"+at.dialled(partGateway)+"/ws", "nowhere"
	if cfg.ChatPage {
		chat = "http://" + at.dialled(partGateway) + "/chat/"
	}
	flag := "" // the client's own default is the gateway's
	if url != "ws://127.0.0.1:8080/ws" {
		flag = " --url=" + url
	}
	fmt.Fprintf(w, `millrace dev is running
  gateway      %s
  gRPC         %s
  API          %s
  console      %s
  chat         %s
  log          %s
  data         %s
  handlers     %s
  admin        %s

Try it in two windows of a browser, or in two more terminals:
  go run ./services/millrace client --user=1001 --target=1002%[10]s
  go run ./services/millrace client --user=1002 --target=1001%[10]s
`, url, at.get(partGRPC), api, console, chat, log, data, strings.Join(cfg.Handlers, ", "), admin, flag)
}
