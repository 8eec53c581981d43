package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// sweepEvery is how often the broker looks for members that have died without kfake noticing.
	sweepEvery = time.Second
	// joinPatience is how much longer than the group's rebalance timeout clients wait for the answer to a JoinGroup request
	// before they send it again. It is the patience of Apache Kafka's own client; Sarama, as it is configured here, has 4 s.
	joinPatience = 5 * time.Second
)

// silence removes members of consumer groups that have sent nothing for their session timeout. kfake does so too, except if a
// member's connection breaks while it waits for the group to form. Nothing in kfake watches such a member, and nobody would
// ever read its partitions again. A group that forms may wait for such a member for ever, because kfake's time for forming
// begins anew whenever another member gives up waiting and joins again.
type silence struct {
	mu      sync.Mutex
	heard   map[member]time.Time
	limits  map[string]limits
	forming map[string]time.Time // when the group was last seen forming
}

type member struct{ group, id string }

// limits are the longest timeouts of a group's members.
type limits struct{ session, rebalance time.Duration }

// listen notes when members send something.
func (s *silence) listen(cluster *kfake.Cluster) {
	s.heard, s.limits, s.forming = make(map[member]time.Time), make(map[string]limits), make(map[string]time.Time)
	note := func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		s.mu.Lock()
		defer s.mu.Unlock()
		switch r := request.(type) {
		case *kmsg.JoinGroupRequest:
			s.limits[r.Group] = limits{
				session:   max(s.limits[r.Group].session, time.Duration(r.SessionTimeoutMillis)*time.Millisecond),
				rebalance: max(s.limits[r.Group].rebalance, time.Duration(r.RebalanceTimeoutMillis)*time.Millisecond),
			}
			s.heard[member{r.Group, r.MemberID}] = time.Now()
		case *kmsg.SyncGroupRequest:
			s.heard[member{r.Group, r.MemberID}] = time.Now()
		case *kmsg.HeartbeatRequest:
			s.heard[member{r.Group, r.MemberID}] = time.Now()
		}
		return nil, nil, false
	}
	for _, kind := range []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat} {
		cluster.ControlKey(kind.Int16(), note)
	}
}

// sweep removes silent members until the context ends.
func (s *silence) sweep(ctx context.Context, addr string, log *slog.Logger) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		log.ErrorContext(ctx, "remove silent members", slog.Any("error", err))
		return
	}
	defer client.Close()
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.sweepOnce(ctx, client, log); err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "remove silent members", slog.Any("error", err))
		}
	}
}

func (s *silence) sweepOnce(ctx context.Context, client *kgo.Client, log *slog.Logger) error {
	groups, err := kadm.NewClient(client).DescribeGroups(ctx)
	if err != nil {
		return fmt.Errorf("describe groups: %w", err)
	}
	for _, dead := range s.silent(groups) {
		log.WarnContext(ctx, "a silent member leaves its group", slog.String("group", dead.group), slog.String("member", dead.id))
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group = dead.group
		leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: dead.id}}
		if _, err := leave.RequestWith(ctx, client); err != nil {
			return fmt.Errorf("leave group %s: %w", dead.group, err)
		}
	}
	return nil
}

// silent returns the members that have been silent for too long, and forgets those that have left. Members of a group that is
// forming wait in silence, but only until they send their request again.
func (s *silence) silent(groups kadm.DescribedGroups) (dead []member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := make(map[member]time.Time)
	now := time.Now()
	for _, g := range groups {
		limit := s.limits[g.Group].session
		if g.State != "Stable" {
			s.forming[g.Group] = now
			limit = s.limits[g.Group].rebalance + joinPatience
		}
		for _, m := range g.Members {
			who := member{g.Group, m.MemberID}
			last, ok := s.heard[who]
			if !ok {
				last = now
			}
			heard[who] = last
			if formed := s.forming[g.Group]; g.State == "Stable" && formed.After(last) {
				last = formed
			}
			if now.Sub(last) > limit+sweepEvery {
				dead = append(dead, who)
			}
		}
	}
	s.heard = heard
	return dead
}
