// Package chat is the command `client`: a chat in the terminal.
package chat

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/infra/security"
	"millrace/services/client"
)

// sendTimeout bounds `client --send`: connecting, sending and the answer.
const sendTimeout = 5 * time.Second

type clientOptions struct {
	url        string
	files      security.TLSFiles
	secure     *tls.Config // for a wss:// URL
	user       int64
	target     int64
	group      int64
	token      string
	device     string
	send       string
	cursorFile string
}

// NewCommand returns the command `client`, which chats in the terminal or sends a single message.
func NewCommand() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "client --user=ID (--target=ID | --group=ID)",
		Short: "Chat in the terminal",
		Long: `Chat in the terminal. Lines typed are sent; messages are printed with their sender and time. When the connection breaks the
client reconnects by itself and prints what it missed. /help lists what else can be typed.

The token is that of --token or MILLRACE_TOKEN; without one it is asked from the server, which only "millrace dev" answers.`,
		Example: `  millrace client --user=1001 --target=1002
  millrace client --user=1001 --group=77
  millrace client --user=1001 --target=1002 --send="hello"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := o.check(); err != nil {
				return err
			}
			if o.secure, err = o.files.LoadClient(o.url); err != nil {
				return err
			}
			if cmd.Flags().Changed("send") {
				return sendOne(cmd, o)
			}
			return runChat(cmd.Context(), o, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "ws://127.0.0.1:8080/ws", "where the gateway is: ws:// or wss://")
	o.files.BindClient(f)
	f.Int64Var(&o.user, "user", 0, "your user id; a token says it too")
	f.Int64Var(&o.target, "target", 0, "the user to chat with")
	f.Int64Var(&o.group, "group", 0, "the group to chat in")
	f.StringVar(&o.token, "token", os.Getenv("MILLRACE_TOKEN"), "token; MILLRACE_TOKEN")
	f.StringVar(&o.device, "device", "", "name of this device: its newest connection replaces the others")
	f.StringVar(&o.send, "send", "", "send this one message and exit")
	f.StringVar(&o.cursorFile, "cursor-file", "", "keep here where you were, and get what you missed since then")
	f.Lookup("token").DefValue = "" // help must not print the token
	cmd.MarkFlagsMutuallyExclusive("target", "group")
	cmd.MarkFlagsMutuallyExclusive("send", "cursor-file") // sending one message neither needs what was missed nor moves the cursor
	return cmd
}

func (o clientOptions) check() error {
	if u, err := url.Parse(o.url); err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return fmt.Errorf("--url=%s: want ws://HOST:PORT/ws or wss://…", o.url)
	}
	for name, id := range map[string]int64{"user": o.user, "target": o.target, "group": o.group} {
		if id < 0 || id > events.MaxID {
			return fmt.Errorf("--%s=%d: ids are from 1 to %d", name, id, int64(events.MaxID))
		}
	}
	if o.user == 0 && o.token == "" {
		return errors.New("who are you? Give --user=ID, or a token")
	}
	return nil
}

func (o clientOptions) to() client.Target { return client.Target{To: o.target, GroupID: o.group} }

func (o clientOptions) config() client.Config {
	return client.Config{
		URL: o.url, TLS: o.secure, Device: o.device, Window: 1,
		Token: client.TokenSource{URL: o.url, TLS: o.secure, Token: o.token}.Of(o.user),
	}
}

// dial connects, and checks that the token is the user's own.
func (o clientOptions) dial(ctx context.Context, cfg client.Config) (*client.Client, error) {
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if user := c.Session().User; o.user != 0 && user != o.user {
		return nil, errors.Join(fmt.Errorf("the token is of user %d, not of %d", user, o.user), c.Close())
	}
	return c, nil
}

func sendOne(cmd *cobra.Command, o clientOptions) error {
	if o.to() == (client.Target{}) {
		return errors.New("--send needs --target=ID or --group=ID")
	}
	if o.send == "" {
		return errors.New("--send: the message is empty")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), sendTimeout)
	defer cancel()
	c, err := o.dial(ctx, o.config())
	if err != nil {
		return err
	}
	sent, err := c.Send(ctx, client.Send{Target: o.to(), Content: o.send})
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "sent", client.Sanitise(sent.MessageID))
	return err
}
