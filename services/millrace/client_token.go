package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"millrace/infra/auth"
)

// tokenSource is where a client's tokens come from: the one given, else signed with the secret, else asked from the
// development server at the same host.
type tokenSource struct {
	url    string // of the WebSocket
	token  string
	secret string
}

const (
	signedTokenLife    = 24 * time.Hour
	tokenAskTimeout    = 5 * time.Second
	maxDevTokenAnswer  = 64 << 10
	howToGetATokenHint = "this server gives no tokens: use --token, made by `millrace token --user=%d` or by your own issuer"
)

// of returns the function that a client asks for tokens of the user.
func (s tokenSource) of(user int64) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		switch {
		case s.token != "":
			return s.token, nil
		case s.secret != "":
			return auth.Sign(s.secret, auth.Identity{User: user, Expires: time.Now().Add(signedTokenLife)})
		}
		return s.ask(ctx, user)
	}
}

func (s tokenSource) ask(ctx context.Context, user int64) (string, error) {
	u, err := url.Parse(s.url)
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
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
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
		return "", fmt.Errorf("ask for token: %s: %s", resp.Status, sanitise(string(bytes.TrimSpace(text))))
	case json.Unmarshal(text, &answer) != nil || answer.Token == "":
		return "", errors.New("ask for token: the answer holds none")
	}
	return answer.Token, nil
}
