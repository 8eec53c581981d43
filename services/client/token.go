package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// TokenSource provides a client's tokens: the one that was set, else the one that Sign makes, else one from the development
// server at the same host.
type TokenSource struct {
	URL   string      // the WebSocket's
	TLS   *tls.Config // for a wss:// URL; nil: the system's authorities are trusted
	Token string
	// Sign makes a token of a user. With nil the server is asked for one.
	Sign func(user int64) (string, error)
}

const (
	tokenAskTimeout    = 5 * time.Second
	maxDevTokenAnswer  = 64 << 10
	howToGetATokenHint = "this server gives no tokens: use --token, made by `millrace token --user=%d` or by your own issuer"
)

// Of returns the function that a client calls for tokens of the user.
func (s TokenSource) Of(user int64) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		switch {
		case s.Token != "":
			return s.Token, nil
		case s.Sign != nil:
			return s.Sign(user)
		}
		return s.ask(ctx, user)
	}
}

func (s TokenSource) ask(ctx context.Context, user int64) (string, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "", fmt.Errorf("token address: %w", err)
	}
	at := url.URL{Scheme: "http", Host: u.Host, Path: "/dev/token"}
	if u.Scheme == "wss" {
		at.Scheme = "https"
	}
	body, err := json.Marshal(map[string]int64{"user": user})
	if err != nil {
		return "", fmt.Errorf("ask for token: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenAskTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("ask for token: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: s.TLS}}).Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for token (is the server running?): %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"token"`
	}
	switch text, err := io.ReadAll(io.LimitReader(resp.Body, maxDevTokenAnswer)); {
	case err != nil:
		return "", fmt.Errorf("ask for token: %w", err)
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		return "", fmt.Errorf(howToGetATokenHint, user)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("ask for token: %s: %s", resp.Status, Sanitise(string(bytes.TrimSpace(text))))
	case json.Unmarshal(text, &answer) != nil || answer.Token == "":
		return "", errors.New("ask for token: the answer holds none")
	}
	return answer.Token, nil
}
