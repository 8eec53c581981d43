package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// comparison is what a bench against another system prints: one line for each mode and measure.
type comparison struct {
	URL     string         `json:"url"`
	Against string         `json:"against"`
	Rounds  int            `json:"rounds"`
	Lines   []comparedLine `json:"results"`
}

// comparedLine holds medians over the rounds. Ratio is the median of the ratios of single rounds, so that rounds in which the
// machine was slow count as much as others.
type comparedLine struct {
	Mode    string  `json:"mode"`
	Measure string  `json:"measure"`
	Against float64 `json:"against"`
	This    float64 `json:"this"`
	Ratio   float64 `json:"ratio"` // that of this system to that of the other
}

// measures are the figures by which systems are compared.
func measures() []measure {
	return []measure{
		{"delivered/s", func(r benchResult) float64 { return r.DeliveredRate }},
		{"stored/s", func(r benchResult) float64 { return r.StoredRate }},
		{"ack p50 ms", func(r benchResult) float64 { return r.Ack.P50 }},
		{"delivery p50 ms", func(r benchResult) float64 { return r.Delivery.P50 }},
		{"delivery p99 ms", func(r benchResult) float64 { return r.Delivery.P99 }},
	}
}

type measure struct {
	name string
	of   func(benchResult) float64
}

// round is the results of both systems in one round, by mode.
type round struct{ this, against []benchResult }

// compare runs the rounds and prints how the system at --url compares with the one at --against. It returns an error as soon
// as either breaks a promise, because the speed of such a system says nothing.
func (o benchOptions) compare(ctx context.Context, out, progress io.Writer) error {
	rounds := make([]round, o.rounds)
	for i := range rounds {
		for _, mode := range o.modes() {
			order := []string{o.url, o.against}
			if i%2 == 1 {
				slices.Reverse(order)
			}
			for _, url := range order {
				if o.againstAdmin != "" {
					if err := o.settled(ctx, progress); err != nil {
						return err
					}
				}
				_, _ = fmt.Fprintf(progress, "round %d of %d: %s at %s\n", i+1, o.rounds, mode, url)
				single := o
				single.url, single.mode = url, mode
				report, err := single.run(ctx, io.Discard)
				if err != nil {
					return fmt.Errorf("%s: %w", url, err)
				}
				if report.Violations > 0 {
					_ = report.print(out, o.json)
					return fmt.Errorf("%s: %w: %d violations", url, errBroken, report.Violations)
				}
				if url == o.url {
					rounds[i].this = append(rounds[i].this, report.Results...)
				} else {
					rounds[i].against = append(rounds[i].against, report.Results...)
				}
			}
		}
	}
	return comparison{URL: o.url, Against: o.against, Rounds: o.rounds, Lines: compared(rounds)}.print(out, o.json)
}

func (c comparison) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, c)
	}
	return c.table(w)
}

func compared(rounds []round) (lines []comparedLine) {
	for i, mode := range rounds[0].this {
		for _, m := range measures() {
			var this, against, ratios []float64
			for _, r := range rounds {
				a, b := m.of(r.this[i]), m.of(r.against[i])
				this, against = append(this, a), append(against, b)
				if b > 0 {
					ratios = append(ratios, a/b)
				}
			}
			lines = append(lines, comparedLine{
				Mode: mode.Mode, Measure: m.name, Against: median(against), This: median(this), Ratio: median(ratios),
			})
		}
	}
	return lines
}

// median sorts the values and returns their median: for an even number the mean of the two in the middle, for none 0.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	switch {
	case n == 0:
		return 0
	case n%2 == 0:
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[n/2]
}

func (c comparison) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "mode\tmeasure\tagainst\tthis\tratio\t")
	for _, l := range c.Lines {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%.2f\t\n", l.Mode, l.Measure, l.Against, l.This, l.Ratio)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	_, err := fmt.Fprintf(w, "medians of %d rounds; ratio: %s to %s\n", c.Rounds, c.URL, c.Against)
	return err
}
