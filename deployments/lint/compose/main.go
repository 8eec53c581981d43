// Command compose checks a compose file with the code with which docker compose reads it. It also checks what our file promises:
// images are pinned, services have health checks, only the services named open ports to other machines, and every file that
// is mounted exists.
//
//	compose FILE [PUBLIC_SERVICE]...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: compose FILE [PUBLIC_SERVICE]...")
		os.Exit(2)
	}
	if err := check(context.Background(), os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(ctx context.Context, file string, public []string) error {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithOsEnv)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for name, service := range project.Services {
		for _, fault := range faultsOf(&service, slices.Contains(public, name)) {
			faults = append(faults, fmt.Errorf("%s: service %s: %s", file, name, fault))
		}
	}
	return errors.Join(faults...)
}

func faultsOf(s *types.ServiceConfig, public bool) (faults []string) {
	_, tag, _ := strings.Cut(s.Image[strings.LastIndex(s.Image, "/")+1:], ":")
	if tag == "" || tag == "latest" {
		faults = append(faults, fmt.Sprintf("image %q is not pinned", s.Image))
	}
	// Images that are built from our Dockerfile have their health check there.
	if s.HealthCheck == nil && s.Build == nil {
		faults = append(faults, "no health check")
	}
	for _, port := range s.Ports {
		if port.HostIP != "127.0.0.1" && !public {
			faults = append(faults, fmt.Sprintf("port %s is open to other machines", port.Published))
		}
	}
	for _, volume := range s.Volumes {
		if volume.Type != types.VolumeTypeBind {
			continue
		}
		if _, err := os.Stat(volume.Source); err != nil { // an engine would make an empty directory
			faults = append(faults, err.Error())
		}
	}
	return faults
}
