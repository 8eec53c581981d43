package mongo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	scheme    = "mongodb"
	srvScheme = "mongodb+srv"
	// lookupPause is between two times that DNS is asked for the servers.
	lookupPause = time.Second
	// someLogin replaces what may be secret.
	someLogin = "user:password@"
)

// CheckURI returns which part of the URI is wrong, without anything that may be a password. It reads the files that the URI
// names, and does not look up the DNS records of mongodb+srv.
func CheckURI(uri string) error {
	kind, rest, _ := strings.Cut(uri, "://")
	if kind != scheme && kind != srvScheme {
		return errors.New("must begin with mongodb:// or mongodb+srv://")
	}
	var login string
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		login, rest = rest[:at+1], rest[at+1:]
	}
	place, query, asked := strings.Cut(rest, "?")
	parameters := strings.FieldsFunc(query, func(r rune) bool { return r == '&' })
	if kind == srvScheme { // options that only this kind can have
		parameters = slices.DeleteFunc(parameters, func(option string) bool {
			name := optionName(option)
			return name == "srvservicename" || name == "srvmaxhosts"
		})
	}
	if valid(login, place, parameters) == nil {
		return nil
	}
	if login != "" {
		login = someLogin
	}
	fault := valid(login, place, parameters)
	switch {
	case fault == nil:
		return errors.New("user or password is not valid: percent-encode what is neither letter nor digit in them")
	case asked && !strings.Contains(place, "/"):
		return errors.New("wants a / before the ?")
	case valid("", place, nil) != nil:
		return errors.New("hosts or database are not valid: want mongodb://HOST:PORT,HOST:PORT/DATABASE")
	}
	for i, option := range parameters {
		if valid(login, place, slices.Delete(slices.Clone(parameters), i, i+1)) != nil {
			continue
		}
		if name := optionName(option); strings.Contains(name, "password") || strings.Contains(name, "properties") {
			return fmt.Errorf("option %s is not valid", name)
		}
		return fmt.Errorf("option %s: %w", option, fault)
	}
	return errors.New("several options are not valid, or do not go together")
}

func valid(login, place string, parameters []string) error {
	uri := scheme + "://" + login + place
	if len(parameters) > 0 {
		uri += "?" + strings.Join(parameters, "&")
	}
	return options.Client().ApplyURI(uri).Validate()
}

func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return strings.ToLower(name)
}

// databaseOf returns the path of the URI, which the driver has found valid.
func databaseOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	rest, _, _ = strings.Cut(rest, "?")
	_, path, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(path)
	if err != nil || name == "" {
		return defaultDatabase
	}
	return name
}

// Hosts returns the servers that a URI names, host:port each. Of mongodb+srv DNS names them, which is asked now.
func Hosts(ctx context.Context, uri string) ([]string, error) {
	kind, rest, _ := strings.Cut(uri, "://")
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	rest, query, _ := strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "/")
	if kind == srvScheme {
		return lookUp(ctx, rest, query)
	}
	hosts := strings.Split(rest, ",")
	for i, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err != nil {
			hosts[i] = net.JoinHostPort(strings.Trim(host, "[]"), "27017")
		}
	}
	return hosts, nil
}

func lookUp(ctx context.Context, host, query string) ([]string, error) {
	service := "mongodb"
	for option := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(option, "="); strings.EqualFold(name, "srvServiceName") {
			service = value
		}
	}
	_, records, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", host)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, len(records))
	for i, r := range records {
		hosts[i] = net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
	}
	return hosts, nil
}

// clientOptions returns the driver's of the URI. While DNS does not name the servers it asks again, until the context ends.
func clientOptions(ctx context.Context, uri string) (*options.ClientOptions, error) {
	for {
		_, err := Hosts(ctx, uri) // the driver asks for as long as it likes
		if err == nil {
			opts := options.Client().ApplyURI(uri)
			if err = opts.Validate(); err == nil {
				return opts, nil
			}
		}
		if unknown := new(net.DNSError); !errors.As(err, &unknown) {
			return nil, err
		}
		select {
		case <-time.After(lookupPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}
