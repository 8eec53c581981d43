package config

import (
	"github.com/spf13/pflag"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/security"
)

// bindAPI adds the flags of the API for backends.
func (c *Config) bindAPI(role Role, flags *pflag.FlagSet) {
	flags.StringVar(&c.APIAddr, "api-addr", "127.0.0.1:9180", "where the API for backends listens, if there are keys for it"+
		map[Role]string{Dev: "; on loopback, requests need none"}[role]+"; empty: nowhere")
	flags.StringSliceVar(&c.APIKeySettings, "api-keys", nil, "keys of backends, NAME:SCOPES:HASH as `millrace api-key` prints them, with commas between")
	flags.IntVar(&c.APIRate, "api-rate", 1000, "requests per second that each key may make")
	flags.Int64Var(&c.APISystemUser, "api-system-user", 0, "user as whom the API sends what names no sender; 0: none")
	flags.StringSliceVar(&c.APIOrigins, "api-origins", nil, "origins of web pages, besides the API's own host, that may call it")
	bindTLS(flags, "api", tlsUse{
		ca:   "PEM file of the authorities that callers of the API must have a certificate of; empty: they need none",
		cert: "PEM file of the API's certificate: it is reached by TLS (https) then",
	}, &c.APITLS)
}

func (c *Config) checkAPI(fault func(flag, format string, args ...any)) {
	names := make([]string, 0, len(c.APIKeySettings))
	for i, setting := range c.APIKeySettings {
		key, err := auth.ParseAPIKey(setting)
		if err != nil {
			fault("api-keys", "number %d: %v", i+1, err)
			continue
		}
		c.APIKeys, names = append(c.APIKeys, key), append(names, key.Name)
	}
	if name, twice := repeated(names); twice {
		fault("api-keys", "two keys are named %s", name)
	}
	if c.APIRate < 1 || c.APIRate > maxRate {
		fault("api-rate", "%d is not between 1 and %d", c.APIRate, maxRate)
	}
	if c.APISystemUser < 0 || c.APISystemUser > events.MaxID {
		fault("api-system-user", "%d is not between 0 and %d", c.APISystemUser, int64(events.MaxID))
	}
	for _, origin := range c.APIOrigins {
		if _, ok := security.ParseOrigin(origin); !ok {
			fault("api-origins", "%q is no origin such as https://example.com", origin)
		}
	}
	checkServerTLS(fault, "api", c.APITLS)
}

// APIOpen reports whether requests to the API need no key: in a process for development that only this machine reaches.
func (c *Config) APIOpen() bool { return c.Role == Dev && loopback(c.APIAddr) }

// ServesAPI reports whether the process serves the API.
func (c *Config) ServesAPI() bool {
	return c.APIAddr != "" && (len(c.APIKeys) > 0 || c.APIOpen())
}
