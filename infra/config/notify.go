package config

import (
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// The bounds of the settings of notifications.
const (
	minNotifyWindow = time.Second
	maxNotifyWindow = 24 * time.Hour
	maxNotifyAge    = 7 * 24 * time.Hour
	maxNotifyGroup  = 10_000
)

// bindNotify adds the flags of the handler notify.
func (c *Config) bindNotify(flags *pflag.FlagSet) {
	c.bindNotifyTargets(flags)
	flags.DurationVar(&c.NotifyWindow, "notify-window", 30*time.Second, "how long messages of a conversation are collected for one notification")
	flags.DurationVar(&c.NotifyMaxAge, "notify-max-age", time.Hour, "age from which on nobody is notified of a message")
	flags.BoolVar(&c.NotifyContent, "notify-content", false, "put the beginning of the latest message into notifications")
	flags.IntVar(&c.NotifyGroupLimit, "notify-group-limit", 200, "members that a group may have so that all are notified; in a larger one only those whom a message mentions")
	flags.StringVar(&c.NotifyQuiet, "notify-quiet", "", "hours in which nobody is notified, with their offset from UTC: 22:00-07:00+02:00; empty: none")
}

// bindNotifyTargets adds the flags that say how to reach browsers and endpoints.
func (c *Config) bindNotifyTargets(flags *pflag.FlagSet) {
	flags.StringVar(&c.VAPIDKey, "vapid-key", "", "private key that Web Push is signed with, from `millrace notify keys`; empty: no Web Push")
	flags.StringVar(&c.VAPIDSubject, "vapid-subject", "", "whom a push service may turn to: mailto:ADDRESS or https://HOST/")
	flags.StringVar(&c.NotifyWebhooks, "notify-webhooks", "", "YAML file of HTTP endpoints that get every notification, as for the webhook handler; empty: none")
	flags.BoolVar(&c.NotifyAllowPrivate, "notify-allow-private", false, "allow push services at addresses that are not public")
}

// BindNotify adds what the command `notify test` needs: the targets, and the store that has the users' subscriptions.
func (c *Config) BindNotify(flags *pflag.FlagSet) {
	c.bindNotifyTargets(flags)
	flags.StringVar(&c.DataDir, "data-dir", "./data", "directory of the embedded store")
	c.bindMongoDB(flags)
	lenient(flags)
}

func (c *Config) checkNotify(fault func(flag, format string, args ...any), flags *pflag.FlagSet) {
	if slices.Contains(c.Handlers, "notify") && c.VAPIDKey == "" && c.NotifyWebhooks == "" {
		fault("vapid-key", "set this or %s to run the notify handler", EnvName("notify-webhooks"))
	}
	if c.VAPIDKey != "" && !isContact(c.VAPIDSubject) {
		fault("vapid-subject", "is neither mailto:ADDRESS nor https://HOST/, which push services want beside a key")
	}
	if flags.Lookup("notify-window") == nil {
		return
	}
	if c.NotifyWindow < minNotifyWindow || c.NotifyWindow > maxNotifyWindow {
		fault("notify-window", "%s is not between %s and %s", c.NotifyWindow, minNotifyWindow, maxNotifyWindow)
	}
	if c.NotifyMaxAge <= c.NotifyWindow || c.NotifyMaxAge > maxNotifyAge {
		fault("notify-max-age", "%s is not between the window, %s, and %s", c.NotifyMaxAge, c.NotifyWindow, maxNotifyAge)
	}
	if c.NotifyGroupLimit < 0 || c.NotifyGroupLimit > maxNotifyGroup {
		fault("notify-group-limit", "%d is not between 0 and %d", c.NotifyGroupLimit, maxNotifyGroup)
	}
}

func isContact(subject string) bool {
	if address, ok := strings.CutPrefix(subject, "mailto:"); ok {
		parsed, err := mail.ParseAddress(address)
		return err == nil && parsed.Address == address
	}
	return strings.HasPrefix(subject, "https://") && isHTTP(subject)
}
