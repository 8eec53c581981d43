package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What dashboards and alerts ask for by another name than a program has given shows as nothing, and looks as if all were well.
func TestEveryMetricOfDashboardsAndAlertsIsOneThatTheCodeHas(t *testing.T) {
	named := regexp.MustCompile(`"(millrace_[a-z_]+)"`)
	known := map[string]bool{}
	const root = "../.."
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			known[match[1]] = true
		}
		return err
	}))
	dashboards, err := filepath.Glob("../../deployments/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, dashboards)
	used := regexp.MustCompile(`millrace_[a-z_]+`)
	for _, file := range append(dashboards, "../../deployments/prometheus/alerts.yml", "../../deployments/prometheus/alerts_test.yml") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		names := used.FindAllString(string(text), -1)
		require.NotEmpty(t, names, file)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			for _, part := range []string{"_bucket", "_count", "_sum"} { // of a histogram
				if !known[name] {
					name = strings.TrimSuffix(name, part)
				}
			}
			require.True(t, known[name], "%s: no metric %s", file, name)
		}
	}
}
