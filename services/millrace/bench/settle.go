package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

// The pause between two looks at what the handlers of a system still have to do, and how long a comparison waits for them.
const (
	settlePause    = 500 * time.Millisecond
	settlePatience = 5 * time.Minute
)

// settled waits until no handler of either system has records left. A system that puts its work off would do it in the other's
// time otherwise.
func (o benchOptions) settled(ctx context.Context, progress io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settlePatience, fmt.Errorf("handlers still have records after %s", settlePatience))
	defer cancel()
	for _, admin := range []string{o.admin, o.againstAdmin} {
		for told := false; ; told = true {
			left, err := readLag(ctx, admin)
			if err != nil {
				return err
			}
			if left == 0 {
				break
			}
			if !told {
				_, _ = fmt.Fprintf(progress, "the handlers at %s have %.0f records left, waiting\n", admin, left)
			}
			if err := pause(ctx, settlePause); err != nil {
				return fmt.Errorf("%s: %w", admin, err)
			}
		}
	}
	return nil
}

// readLag returns how many records the handlers of a system have still to handle, all together.
func readLag(ctx context.Context, admin string) (left float64, err error) {
	families, err := readMetrics(ctx, admin)
	if err != nil {
		return 0, err
	}
	for _, lag := range families["millrace_consumer_lag_records"].GetMetric() {
		left += lag.GetGauge().GetValue()
	}
	return left, nil
}
