package config

import (
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"millrace/infra/signature"
)

// The rules for when the hook fails: messages pass, or are refused.
const (
	failOpen   = "open"
	failClosed = "closed"
)

// maxHookTimeout leaves the broker time before a gateway gives a send up.
const maxHookTimeout = 2 * time.Second

// bindHook adds the flags of the hook over HTTP.
func (c *Config) bindHook(flags *pflag.FlagSet) {
	flags.StringVar(&c.HookURL, "hook-url", "", "HTTP endpoint that is asked before a message or an edit is accepted; empty: none")
	flags.StringVar(&c.HookSecret, "hook-secret", "", "secret that requests to it are signed with after the Standard Webhooks convention (whsec_…); several with commas between")
	flags.DurationVar(&c.HookTimeout, "hook-timeout", 500*time.Millisecond, "how long it may take to answer, at most "+maxHookTimeout.String())
	flags.StringVar(&c.HookFail, "hook-fail", failOpen, "what happens while it does not answer: open: messages pass; closed: they are refused as unavailable")
}

// HookFailsOpen reports whether messages pass while the hook does not answer.
func (c *Config) HookFailsOpen() bool { return c.HookFail == failOpen }

func (c *Config) checkHook(fault func(flag, format string, args ...any)) {
	if c.HookTimeout < time.Millisecond || c.HookTimeout > maxHookTimeout {
		fault("hook-timeout", "%s is not between 1ms and %s", c.HookTimeout, maxHookTimeout)
	}
	if c.HookFail != failOpen && c.HookFail != failClosed {
		fault("hook-fail", "%q is neither %s nor %s", c.HookFail, failOpen, failClosed)
	}
	if c.HookURL == "" {
		if c.HookSecret != "" {
			fault("hook-url", "must be set where %s is", EnvName("hook-secret"))
		}
		return
	}
	if !isHTTP(c.HookURL) {
		fault("hook-url", "is no http or https URL") // not quoted, because it may hold a password
	}
	if _, err := signature.ParseKeys(c.HookSecret); err != nil {
		fault("hook-secret", "%v", err)
	}
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}
