package notify

import (
	"fmt"
	"regexp"
	"time"
)

// Quiet is the part of every day in which nobody is told anything. The zero value is none.
type Quiet struct {
	from, to time.Duration // since midnight; to may be the next day's
	zone     *time.Location
}

var quietHours = regexp.MustCompile(`^([0-2][0-9]:[0-5][0-9])-([0-2][0-9]:[0-5][0-9])(Z|[+-][0-2][0-9]:[0-5][0-9])$`)

// ParseQuiet reads quiet hours such as 22:00-07:00+02:00: from, to and the offset from UTC, Z being none. The empty string
// stands for no quiet hours.
func ParseQuiet(hours string) (Quiet, error) {
	if hours == "" {
		return Quiet{}, nil
	}
	parts := quietHours.FindStringSubmatch(hours)
	if parts == nil {
		return Quiet{}, fmt.Errorf("%.40q is not like 22:00-07:00+02:00", hours)
	}
	var at [2]time.Time
	for i := range at {
		var err error
		if at[i], err = time.Parse("15:04Z07:00", parts[i+1]+parts[3]); err != nil {
			return Quiet{}, fmt.Errorf("%.40q is not like 22:00-07:00+02:00", hours)
		}
	}
	_, offset := at[0].Zone()
	q := Quiet{sinceMidnight(at[0]), sinceMidnight(at[1]), time.FixedZone("", offset)}
	if q.from == q.to {
		return Quiet{}, fmt.Errorf("%.40q begins when it ends", hours)
	}
	return q, nil
}

func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// At reports whether it is quiet at the time.
func (q Quiet) At(t time.Time) bool {
	if q.zone == nil {
		return false
	}
	now := sinceMidnight(t.In(q.zone))
	if q.from < q.to {
		return q.from <= now && now < q.to
	}
	return q.from <= now || now < q.to
}
