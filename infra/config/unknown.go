package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// link matches the variables that Kubernetes and Docker set for a service whose name begins with millrace.
var link = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// Unknown returns the names among the variables (NAME=VALUE) that begin like ours and set nothing in any role or command:
// they are probably misspelt. Besides the settings of roles, the further flags are known.
func Unknown(environment []string, further ...string) []string {
	known := map[string]bool{}
	for _, flag := range further {
		known[EnvName(flag)] = true
	}
	for _, role := range []Role{Dev, Broker, Message, Connect, Worker} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		new(Config).Bind(role, flags)
		flags.VisitAll(func(f *pflag.Flag) { known[EnvName(f.Name)] = true })
	}
	var unknown []string
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, envPrefix) && !known[name] && !strings.HasPrefix(name, envPrefix+"TEST_") && !link.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
