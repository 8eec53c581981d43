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

// sweepEvery is how often the broker looks for members that have died without kfake noticing.
const sweepEvery = time.Second

// silence removes members of consumer groups that have sent nothing for their session timeout. kfake does so too, except if a
// member's connection breaks while it waits for the group to form. Nothing in kfake watches such a member, and nobody would
// ever read its partitions again.
type silence struct {
	mu       sync.Mutex
	heard    map[member]time.Time
	timeouts map[string]time.Duration // the longest session timeout of each group
}

type member struct{ group, id string }

// listen notes when members send something.
func (s *silence) listen(cluster *kfake.Cluster) {
	s.heard, s.timeouts = make(map[member]time.Time), make(map[string]time.Duration)
	note := func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		s.mu.Lock()
		defer s.mu.Unlock()
		switch r := request.(type) {
		case *kmsg.JoinGroupRequest:
			s.timeouts[r.Group] = max(s.timeouts[r.Group], time.Duration(r.SessionTimeoutMillis)*time.Millisecond)
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

// silent returns the members that have been silent for too long, and forgets those that have left. It leaves a group that is
// forming alone, because its members wait in silence.
func (s *silence) silent(groups kadm.DescribedGroups) (dead []member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := make(map[member]time.Time)
	for _, g := range groups {
		for _, m := range g.Members {
			who := member{g.Group, m.MemberID}
			last, ok := s.heard[who]
			if !ok || g.State != "Stable" {
				last = time.Now()
			}
			heard[who] = last
			if time.Since(last) > s.timeouts[g.Group]+sweepEvery {
				dead = append(dead, who)
			}
		}
	}
	s.heard = heard
	return dead
}
