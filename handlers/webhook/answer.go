package webhook

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Answer is what a server has said.
type Answer struct {
	Status     int
	RetryAfter time.Duration // 0: it does not say
}

// OK reports whether the server has taken the request.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Permanent reports whether the server will never take the request.
func (a Answer) Permanent() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusGone:
		return false
	}
	return a.Status >= 400 && a.Status < 500
}

// Err returns the answer in words.
func (a Answer) Err() error {
	redirect := ""
	if a.Status >= 300 && a.Status < 400 {
		redirect = ", and redirects are not followed"
	}
	return fmt.Errorf("the endpoint has answered %d %s%s", a.Status, http.StatusText(a.Status), redirect)
}

// readAnswer reads the response and closes it.
func readAnswer(response *http.Response) Answer {
	defer response.Body.Close()
	// The status says all. What fails here costs the connection, not the event.
	_, _ = io.CopyN(io.Discard, response.Body, maxResponseBytes)
	return Answer{response.StatusCode, retryAfter(response.Header.Get("Retry-After"), time.Now())}
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds or a time. It returns 0 if that is in the past or
// neither of them.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		return time.Duration(max(0, min(seconds, int64(longestWish/time.Second)))) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), longestWish))
}

// withoutURL returns the error without the URL, which may hold a token, and short, because the endpoint has a say in it.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if text := err.Error(); len(text) > maxErrorBytes {
		return errors.New(text[:maxErrorBytes])
	}
	return err
}

const maxErrorBytes = 300
