package webhook

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"

	"millrace/events"
	"millrace/infra/signature"
)

// Endpoint is one HTTP endpoint as the configuration describes it.
type Endpoint struct {
	// Name names the endpoint's handler and consumer group, so it must never change: under another name the endpoint gets the
	// events from the beginning of the log.
	Name string
	// URL has the scheme https, or http if AllowPrivate is set.
	URL string
	// Keys sign every request, all of them, so that the receiver can go over from one to another.
	Keys signature.Keys
	// Types lists the types of the events that the endpoint gets; empty means all.
	Types []events.Type
	// Notify lists for whom the endpoint is told of events: it gets those for which a rule with the action notify has named one of
	// them. Empty means that it does not go by that.
	Notify []string
	// InOrder makes the events of a conversation wait for each other.
	InOrder bool
	// Timeout bounds one request, from the look-up of the address to the end of the response.
	Timeout time.Duration
	// Parallel bounds the requests that a process has under way.
	Parallel int
	// AllowPrivate allows addresses that are not public, and HTTP without TLS to these.
	AllowPrivate bool
}

// The bounds and defaults of the settings.
const (
	defaultTimeout  = 5 * time.Second
	minTimeout      = 100 * time.Millisecond
	maxTimeout      = 20 * time.Second
	defaultParallel = 16
	maxParallel     = 256
	maxSecrets      = 8
	maxEndpoints    = 1000
)

// The two orders.
const (
	orderConversation = "conversation"
	orderNone         = "none"
)

var (
	endpointName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	notifyName   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	versionName  = regexp.MustCompile(`-v[0-9]+$`)
)

// ReadFile reads the configuration in the file; see [Parse].
func ReadFile(path string) ([]Endpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err // the error names the operation and the file
	}
	endpoints, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", path, err)
	}
	return endpoints, nil
}

// Parse reads a configuration: a YAML document whose member "endpoints" lists them. The error has, for everything that is
// wrong, the line and the reason. It contains no secrets and no URLs, which may contain some.
func Parse(data []byte) ([]Endpoint, error) {
	var file struct {
		Endpoints []entry `yaml:"endpoints"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, withoutValues(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("line 1: want one document, there are more")
	}
	if n := len(file.Endpoints); n < 1 || n > maxEndpoints {
		return nil, fmt.Errorf("line 1: want a list of endpoints, from 1 to %d, there are %d", maxEndpoints, n)
	}
	var all faults
	endpoints := make([]Endpoint, len(file.Endpoints))
	names := make(map[string]int, len(file.Endpoints))
	for i := range file.Endpoints {
		e := &file.Endpoints[i]
		endpoints[i] = e.check(&all)
		if before, twice := names[e.Name.value]; twice && e.Name.line > 0 {
			all.add(e.Name.line, "name: the endpoint in line %d has the same", before)
		}
		names[e.Name.value] = e.Name.line
	}
	if len(all) > 0 {
		return nil, errors.Join(all...)
	}
	return endpoints, nil
}

// withoutValues returns an error of the decoder without the values that it quotes, which may be secrets.
func withoutValues(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err
	}
	lines := make([]error, len(wrong.Errors))
	for i, line := range wrong.Errors {
		lines[i] = errors.New(quoted.ReplaceAllString(line, "a value of type $1"))
	}
	return errors.Join(lines...)
}

// quoted matches how the decoder names a value that it cannot use: cannot unmarshal !!str `abc` into int.
var quoted = regexp.MustCompile("(?s)!!([a-z]+) `.*`")

// entry is an endpoint as it stands in the file.
type entry struct {
	Name         at[string]   `yaml:"name"`
	URL          at[string]   `yaml:"url"`
	Secrets      []at[string] `yaml:"secrets"`
	Types        []at[string] `yaml:"types"`
	Notify       []at[string] `yaml:"notify"`
	Order        at[string]   `yaml:"order"`
	Timeout      at[string]   `yaml:"timeout"`
	Parallel     at[int]      `yaml:"parallel"`
	AllowPrivate at[bool]     `yaml:"allow_private"`
}

// at is a value with the line where it stands; the line is 0 if the value is missing.
type at[T any] struct {
	value T
	line  int
}

// UnmarshalYAML implements [yaml.Unmarshaler].
func (a *at[T]) UnmarshalYAML(node *yaml.Node) error {
	a.line = node.Line
	return node.Decode(&a.value)
}

// faults collects what is wrong.
type faults []error

func (f *faults) add(line int, format string, args ...any) {
	*f = append(*f, fmt.Errorf("line %d: "+format, append([]any{line}, args...)...))
}

// check returns the endpoint with defaults for what is missing, and adds what is wrong with it to the faults. What is missing
// altogether is reported in the line of the name, or in that of the URL.
func (e *entry) check(all *faults) Endpoint {
	line := max(cmp.Or(e.Name.line, e.URL.line), 1)
	endpoint := Endpoint{
		Name: e.Name.value, URL: e.URL.value, Timeout: defaultTimeout, Parallel: defaultParallel, InOrder: true, AllowPrivate: e.AllowPrivate.value,
	}
	switch {
	case !endpointName.MatchString(e.Name.value):
		all.add(line, "name: want 1 to 63 lower-case letters, digits and hyphens, not a hyphen first")
	case versionName.MatchString(e.Name.value):
		all.add(line, "name: an end such as -v2 is for versions of a handler")
	}
	if reason := checkURL(e.URL.value, e.AllowPrivate.value); reason != "" {
		all.add(cmp.Or(e.URL.line, line), "url: %s", reason)
	}
	if len(e.Secrets) < 1 || len(e.Secrets) > maxSecrets {
		all.add(line, "secrets: want 1 to %d, there are %d", maxSecrets, len(e.Secrets))
	}
	for _, s := range e.Secrets {
		keys, err := signature.ParseKeys(s.value)
		if err != nil {
			all.add(s.line, "secrets: %v", err)
		}
		endpoint.Keys = append(endpoint.Keys, keys...)
	}
	for _, t := range e.Types {
		if !events.Type(t.value).Known() {
			all.add(t.line, "types: %.80q is no type of event", t.value)
		}
		endpoint.Types = append(endpoint.Types, events.Type(t.value))
	}
	for _, n := range e.Notify {
		if !notifyName.MatchString(n.value) {
			all.add(n.line, "notify: %.80q is no name of a rule's notify", n.value)
		}
		endpoint.Notify = append(endpoint.Notify, n.value)
	}
	if e.Order.line > 0 {
		endpoint.InOrder = e.Order.value == orderConversation
		if !endpoint.InOrder && e.Order.value != orderNone {
			all.add(e.Order.line, "order: %.80q is neither %s nor %s", e.Order.value, orderConversation, orderNone)
		}
	}
	if e.Timeout.line > 0 {
		var err error
		if endpoint.Timeout, err = time.ParseDuration(e.Timeout.value); err != nil || endpoint.Timeout < minTimeout || endpoint.Timeout > maxTimeout {
			all.add(e.Timeout.line, "timeout: %.80q is no duration from %s to %s", e.Timeout.value, minTimeout, maxTimeout)
		}
	}
	if e.Parallel.line > 0 {
		if endpoint.Parallel = e.Parallel.value; endpoint.Parallel < 1 || endpoint.Parallel > maxParallel {
			all.add(e.Parallel.line, "parallel: %d is not between 1 and %d", endpoint.Parallel, maxParallel)
		}
	}
	return endpoint
}

// checkURL returns why an endpoint cannot have the URL, or an empty string if it can.
func checkURL(address string, allowPrivate bool) string {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return "want https://HOST/PATH"
	case u.Scheme == "http" && !allowPrivate:
		return "want https; http is for private addresses, with allow_private"
	case u.User != nil:
		return "want no user and password: the signature tells who sends"
	case u.Fragment != "":
		return "want no fragment: it would not be sent"
	}
	return ""
}
