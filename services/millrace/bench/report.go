package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"millrace/services/client"
)

// benchReport is what a bench prints.
type benchReport struct {
	URL        string        `json:"url"`
	Run        string        `json:"run"`
	Results    []benchResult `json:"results"`
	Violations int           `json:"violations"`
}

// benchResult is the result of one mode. A rate counts from the first send to the last of what it counts.
type benchResult struct {
	Mode     string `json:"mode"`
	Pairs    int    `json:"pairs"`
	Window   int    `json:"window"` // messages of a pair in flight
	Size     int    `json:"size"`   // bytes of content
	Accepted int64  `json:"accepted"`
	// Refused counts answers of unavailable and rate_limited. Such a message is repeated, and its time runs from its first
	// try.
	Refused   int     `json:"refused"`
	Delivered int64   `json:"delivered"` // to all receivers; the pushes to the senders are not among these
	Stored    int     `json:"stored"`    // read back from history
	Seconds   float64 `json:"seconds"`   // until everything was accepted, delivered and stored

	AcceptedRate  float64 `json:"accepted_per_second"`
	DeliveredRate float64 `json:"delivered_per_second"`
	// StoredRate counts up to the moment when the last message could be read from history, which is asked for every 20 ms
	// once everything is accepted. So it is never too high, and too low by one poll at most.
	StoredRate float64 `json:"stored_per_second"`

	Ack      benchLatency `json:"ack"`      // from the send to its answer
	Delivery benchLatency `json:"delivery"` // from the send, or from when the receivers came back, to the push to one receiver of each message

	Violations []string `json:"violations"`
}

// benchLatency holds milliseconds.
type benchLatency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func latencyOf(h *hdrhistogram.Histogram) benchLatency {
	return benchLatency{
		P50: float64(h.ValueAtQuantile(50)) / 1000,
		P99: float64(h.ValueAtQuantile(99)) / 1000,
		Max: float64(h.Max()) / 1000,
	}
}

// result sums up and checks a run that has ended.
func (r *benchRun) result(lastStored time.Duration, history [][]sighting) benchResult {
	result := benchResult{Mode: r.name, Pairs: r.pairs, Window: r.window, Size: r.options.size, Violations: []string{}}
	ack, delivery := newLatencies(), newLatencies()
	var lastAck, lastDelivery, back time.Duration
	for i, p := range r.all {
		ack.Merge(p.ack)
		delivery.Merge(p.delivery)
		lastAck, lastDelivery = max(lastAck, p.lastAck), max(lastDelivery, p.lastDelivery)
		back = p.back
		result.Accepted += p.acked.Load()
		result.Delivered += p.delivered.Load()
		result.Refused += p.refusals
		result.Stored += len(history[i])
		seen := evidence{
			acked: int(p.acked.Load()), sent: int(p.next), refusals: p.refusals,
			atPeer: p.atPeer, atSender: p.atSender, stored: history[i],
		}
		result.violate(p.sendErr, p.receiveErr)
		for _, l := range p.others {
			lastDelivery = max(lastDelivery, l.last)
			seen.atOthers = append(seen.atOthers, l.seen)
			result.violate(l.err)
		}
		for _, what := range seen.violations() {
			result.violate(fmt.Errorf("users %d and %d: %s", p.from.user, p.to.user, what))
		}
	}
	result.Ack, result.Delivery = latencyOf(ack), latencyOf(delivery)
	result.AcceptedRate = rate(result.Accepted, lastAck)
	result.DeliveredRate = rate(result.Delivered, lastDelivery-back)
	result.StoredRate = rate(int64(result.Stored), lastStored)
	result.Seconds = max(lastAck, lastDelivery, lastStored).Seconds()
	return result
}

func (b *benchResult) violate(errs ...error) {
	for _, err := range errs {
		if err != nil {
			b.Violations = append(b.Violations, err.Error())
		}
	}
}

func rate(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// table prints the report for people, with the first violations of each mode.
func (b benchReport) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "mode\tpairs\tin flight\tmessages\trefused\taccepted/s\tdelivered/s\tstored/s\tack p50\tp99\tmax\tdelivery p50\tp99\tmax ms\t")
	for _, r := range b.Results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.1f\t%.2f\t%.2f\t%.1f\t\n",
			r.Mode, r.Pairs, r.Window, r.Accepted, r.Refused, r.AcceptedRate, r.DeliveredRate, r.StoredRate,
			r.Ack.P50, r.Ack.P99, r.Ack.Max, r.Delivery.P50, r.Delivery.P99, r.Delivery.Max)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, r := range b.Results {
		for i, what := range r.Violations {
			if i == maxViolationsShown {
				fmt.Fprintf(w, "%s: and %d more\n", r.Mode, len(r.Violations)-i)
				break
			}
			fmt.Fprintf(w, "%s: VIOLATION: %s\n", r.Mode, client.Sanitise(what))
		}
	}
	verdict := "every message was accepted once, pushed once to all its users, stored once, in one order"
	if b.Violations > 0 {
		verdict = fmt.Sprintf("FAILED: %d violations", b.Violations)
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

const maxViolationsShown = 20
