package config

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// value is a flag's value that takes whatever it is set to and keeps what was wrong with it, so that [Config.Load] can report
// all faults at once; pflag itself stops at the first.
type value struct {
	pflag.Value
	fault error
}

func (v *value) Set(s string) error {
	before := v.String()
	v.fault = v.Value.Set(s)
	if _, isList := v.Value.(pflag.SliceValue); v.fault != nil && !isList {
		_ = v.Value.Set(before) // else a number is zero now, which may be another fault
	}
	return nil
}

// lenient lets all of the flags take whatever they are set to.
func lenient(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		f.Value = &value{Value: f.Value}
		if f.DefValue == "[]" { // help leaves it out only where it knows the type
			f.DefValue = ""
		}
	})
}

// fromEnvironment sets what no flag has set.
func fromEnvironment(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if set := os.Getenv(EnvName(f.Name)); set != "" && !f.Changed {
			_ = f.Value.Set(set) // checkValues reports what is wrong with it
		}
	})
}

// checkValues reports what is not even of the kind that its flag wants.
func checkValues(fault func(flag, format string, args ...any), flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		v, ok := f.Value.(*value)
		if !ok || v.fault == nil {
			return
		}
		switch kind := v.Type(); {
		case strings.HasPrefix(kind, "int"):
			fault(f.Name, "is no whole number that fits")
		case kind == "bool":
			fault(f.Name, "is neither true nor false")
		case f.Name == "log-level":
			fault(f.Name, "is none of debug, info, warn and error")
		default:
			fault(f.Name, "%v", v.fault)
		}
	})
}

// EnvName returns the environment variable of a flag.
func EnvName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// faults collects what is wrong, a line for each.
type faults []error

func (f *faults) add(flag, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s (--%s): %s", EnvName(flag), flag, fmt.Sprintf(format, args...)))
}
