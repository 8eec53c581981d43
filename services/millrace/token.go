package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"millrace/events"
	"millrace/infra/auth"
	"millrace/infra/config"
	"millrace/infra/security"
)

const (
	// devTokenLife is how long a token from /dev/token is valid.
	devTokenLife = 24 * time.Hour
	// maxDevTokenRequest bounds the body of /dev/token.
	maxDevTokenRequest = 1 << 10
)

func newTokenCommand() *cobra.Command {
	var (
		cfg  config.Config
		id   auth.Identity
		life time.Duration
	)
	cmd := &cobra.Command{
		Use:   "token --user=ID",
		Short: "Print a user's token",
		Long: `Print a token (HS256) that a gateway with the same secret accepts. The secret is that of MILLRACE_JWT_SECRET or, if that
is not set, the one which "millrace dev" drew for itself and keeps in its data directory.`,
		Example: "  millrace token --user=1001 --ttl=1h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return err
			}
			if err := checkUser(id.User); err != nil {
				return err
			}
			if life <= 0 {
				return fmt.Errorf("--ttl=%s: the token would have expired already", life)
			}
			secret := cfg.JWTSecret
			if secret == "" {
				var err error
				if secret, err = keptSecret(cfg.DataDir); err != nil {
					return fmt.Errorf("no secret: set MILLRACE_JWT_SECRET, or --data-dir to the directory of a `millrace dev`: %w", err)
				}
			}
			id.Expires = time.Now().Add(life)
			token, err := auth.Sign(secret, id)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		},
	}
	cfg.BindToken(cmd.Flags())
	cmd.Flags().Int64Var(&id.User, "user", 0, "user id")
	cmd.Flags().DurationVar(&life, "ttl", devTokenLife, "how long the token holds")
	cmd.Flags().StringVar(&id.UserType, "user-type", "", "put into the token for routing")
	cmd.Flags().StringVar(&id.Region, "region", "", "put into the token for routing")
	_ = cmd.MarkFlagRequired("user") // fails only for a flag that does not exist
	cmd.AddCommand(newRevokeCommand())
	return cmd
}

// serveDevToken returns a token for any user to anybody, also to pages of the origins allowed. It is for dev alone.
func serveDevToken(secret string, origins []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" && security.OriginAllowed(origin, origins) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
		}
		var request struct {
			User int64 `json:"user"`
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDevTokenRequest))
		if err == nil {
			err = json.Unmarshal(body, &request)
		}
		if err != nil || request.User < 1 || request.User > events.MaxID {
			http.Error(w, `want {"user":ID}`, http.StatusBadRequest)
			return
		}
		token, err := auth.Sign(secret, auth.Identity{User: request.User, Expires: time.Now().Add(devTokenLife)})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, map[string]string{"token": token}) // the client may have gone
	}
}

// checkUser returns an error unless the flag --user is the id of a user.
func checkUser(user int64) error {
	if user < 1 || user > events.MaxID {
		return fmt.Errorf("--user=%d: a user id is from 1 to %d", user, int64(events.MaxID))
	}
	return nil
}
