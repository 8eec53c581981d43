package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"
)

// idleSettle is how long the connections are left alone before their memory is measured.
const idleSettle = 3 * time.Second

// idleResult is what connections cost on which nothing is sent. The memory is what the server has more than before the first.
type idleResult struct {
	Connections    int     `json:"connections"`
	ConnectsPerSec float64 `json:"connects_per_second"`
	RSS            float64 `json:"rss_kib_each"`
	// Live is heap and stacks after a garbage collection.
	Live float64 `json:"live_kib_each"`
}

// idle opens the connections and measures what they cost. The server should have just started, because memory that it has used
// for something else before is not counted.
func (o benchOptions) idle(ctx context.Context, admin string, progress io.Writer) (idleResult, error) {
	before, err := readUsage(ctx, admin)
	if err != nil {
		return idleResult{}, err
	}
	peers := make([]*benchPeer, o.connections)
	var reading errgroup.Group
	defer func() {
		for _, p := range peers {
			if p != nil {
				p.cut()
			}
		}
		_ = reading.Wait()
	}()
	run := &benchRun{options: o}
	begin := time.Now()
	var dials errgroup.Group
	dials.SetLimit(maxDials)
	for i := range peers {
		dials.Go(func() (err error) {
			if peers[i], err = run.dial(ctx, o.firstUser+int64(i), nil); err != nil {
				return err
			}
			if (i+1)%1000 == 0 {
				_, _ = fmt.Fprintf(progress, "idle: %d of %d connected\n", i+1, o.connections)
			}
			reading.Go(func() error { // answers the server's pings
				for err := error(nil); err == nil; {
					_, err = peers[i].next()
				}
				return nil
			})
			return nil
		})
	}
	if err := dials.Wait(); err != nil {
		return idleResult{}, err
	}
	took := time.Since(begin)
	if err := pause(ctx, idleSettle); err != nil {
		return idleResult{}, err
	}
	after, err := readUsage(ctx, admin)
	if err != nil {
		return idleResult{}, err
	}
	each := func(bytes float64) float64 { return bytes / 1024 / float64(o.connections) }
	return idleResult{
		Connections: o.connections, ConnectsPerSec: float64(o.connections) / took.Seconds(),
		RSS: each(after.rss - before.rss), Live: each(after.live - before.live),
	}, nil
}

// runIdle measures the system at --url, or compares it with the one at --against.
func (o benchOptions) runIdle(ctx context.Context, out, progress io.Writer) error {
	this, err := o.idle(ctx, o.admin, progress)
	if err != nil {
		return fmt.Errorf("%s: %w", o.url, err)
	}
	if o.against == "" {
		if o.json {
			return printJSON(out, this)
		}
		return this.table(out)
	}
	other := o
	other.url = o.against
	against, err := other.idle(ctx, o.againstAdmin, progress)
	if err != nil {
		return fmt.Errorf("%s: %w", o.against, err)
	}
	c := comparison{URL: o.url, Against: o.against, Rounds: 1, Lines: []comparedLine{
		{modeIdle, "connects/s", against.ConnectsPerSec, this.ConnectsPerSec, this.ConnectsPerSec / against.ConnectsPerSec},
		{modeIdle, "RSS KiB", against.RSS, this.RSS, this.RSS / against.RSS},
		{modeIdle, "live KiB", against.Live, this.Live, this.Live / against.Live},
	}}
	return c.print(out, o.json)
}

func (r idleResult) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "mode\tconnections\tconnects/s\tRSS KiB each\tlive KiB each\t")
	fmt.Fprintf(t, "%s\t%d\t%.0f\t%.1f\t%.1f\t\n", modeIdle, r.Connections, r.ConnectsPerSec, r.RSS, r.Live)
	return t.Flush()
}

// usage is the memory of a process in bytes.
type usage struct{ rss, live float64 }

// readUsage reads the resident memory, lets the process collect its garbage, and reads what lives after that.
func readUsage(ctx context.Context, admin string) (usage, error) {
	found, err := readGauges(ctx, admin)
	if err != nil {
		return usage{}, err
	}
	u := usage{rss: found["process_resident_memory_bytes"]}
	profile, err := get(ctx, admin, "debug/pprof/heap", "gc=1")
	if err != nil {
		return usage{}, err
	}
	if _, err := io.Copy(io.Discard, profile); err != nil {
		return usage{}, errors.Join(fmt.Errorf("collect garbage: %w", err), profile.Close())
	}
	if err := profile.Close(); err != nil {
		return usage{}, err
	}
	if found, err = readGauges(ctx, admin); err != nil {
		return usage{}, err
	}
	u.live = found["go_memstats_heap_alloc_bytes"] + found["go_memstats_stack_inuse_bytes"]
	if u.rss == 0 || u.live == 0 {
		return usage{}, errors.New("the metrics do not say how much memory is used")
	}
	return u, nil
}

func readMetrics(ctx context.Context, admin string) (map[string]*dto.MetricFamily, error) {
	body, err := get(ctx, admin, "metrics", "")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", admin, err)
	}
	return families, nil
}

func readGauges(ctx context.Context, admin string) (map[string]float64, error) {
	families, err := readMetrics(ctx, admin)
	if err != nil {
		return nil, err
	}
	gauges := make(map[string]float64)
	for name, family := range families {
		if family.GetType() == dto.MetricType_GAUGE && len(family.GetMetric()) == 1 {
			gauges[name] = family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return gauges, nil
}

func get(ctx context.Context, admin, path, query string) (io.ReadCloser, error) {
	at, err := url.Parse(admin)
	if err != nil {
		return nil, fmt.Errorf("admin address: %w", err)
	}
	at = at.JoinPath(path)
	at.RawQuery = query
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("admin address: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: %s", at, response.Status), response.Body.Close())
	}
	return response.Body, nil
}
