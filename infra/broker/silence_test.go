package broker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupMember sends requests as one member of the group "group".
type groupMember struct {
	t          *testing.T
	client     *kgo.Client
	id         string
	generation int32
}

func (m *groupMember) join(ctx context.Context) error {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.MemberID = "group", "consumer", m.id
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 6000, 6000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	answer, err := join.RequestWith(ctx, m.client)
	if err != nil {
		return err
	}
	m.id, m.generation = answer.MemberID, answer.Generation
	return kerr.ErrorForCode(answer.ErrorCode)
}

func (m *groupMember) sync() {
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "group", m.id, m.generation
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: m.id}}
	answer, err := sync.RequestWith(m.t.Context(), m.client)
	require.NoError(m.t, err)
	require.NoError(m.t, kerr.ErrorForCode(answer.ErrorCode))
}

func (m *groupMember) beat() error {
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "group", m.id, m.generation
	answer, err := beat.RequestWith(m.t.Context(), m.client)
	require.NoError(m.t, err)
	return kerr.ErrorForCode(answer.ErrorCode)
}

// A group forms although a member has died and the others join again and again, sooner than the time for forming is over.
func TestGroupFormsWithoutADeadMemberWhenOthersJoinAgain(t *testing.T) {
	t.Parallel() // it waits for a rebalance timeout
	b := start(t, "127.0.0.1:0", t.TempDir())
	newMember := func() *groupMember {
		m := &groupMember{t: t, client: connect(t, b.Addr())}
		require.ErrorIs(t, m.join(t.Context()), kerr.MemberIDRequired)
		return m
	}
	first := newMember()
	require.NoError(t, first.join(t.Context()))
	first.sync()
	dies := newMember()
	joined := make(chan error, 1)
	ctx, kill := context.WithCancel(t.Context())
	go func() { joined <- dies.join(ctx) }()
	require.Eventually(t, func() bool { return first.beat() != nil }, 20*time.Second, time.Millisecond)
	kill()
	dies.client.Close()
	require.Error(t, <-joined)
	require.NoError(t, first.join(t.Context()))

	// The members' requests alternate: one every two seconds, of six for which the group waits.
	formed := make(chan bool, 2)
	for i, m := range []*groupMember{newMember(), first} {
		go func() {
			<-time.After(time.Duration(i) * 2 * time.Second)
			for begin := time.Now(); time.Since(begin) < time.Minute; {
				ctx, giveUp := context.WithTimeout(t.Context(), 4*time.Second)
				err := m.join(ctx)
				giveUp()
				if err == nil {
					formed <- true
					return
				}
			}
			formed <- false
		}()
	}
	require.True(t, <-formed)
	require.True(t, <-formed)
}

// A member whose connection breaks while it waits for the group to form must not keep its partitions.
func TestMemberThatDiesWhileItsGroupFormsIsRemoved(t *testing.T) {
	t.Parallel() // it waits for a session timeout
	b := start(t, "127.0.0.1:0", t.TempDir())
	admin := kadm.NewClient(connect(t, b.Addr()))
	members := func() int {
		groups, err := admin.DescribeGroups(t.Context(), "group")
		require.NoError(t, err)
		return len(groups["group"].Members)
	}
	stays := &groupMember{t: t, client: connect(t, b.Addr())}
	require.ErrorIs(t, stays.join(t.Context()), kerr.MemberIDRequired)
	require.NoError(t, stays.join(t.Context()))
	stays.sync()

	dies := &groupMember{t: t, client: connect(t, b.Addr())}
	require.ErrorIs(t, dies.join(t.Context()), kerr.MemberIDRequired)
	ctx, kill := context.WithCancel(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- dies.join(ctx) }()
	require.Eventually(t, func() bool { return members() == 2 }, 20*time.Second, time.Millisecond)
	kill()
	dies.client.Close()
	require.Error(t, <-joined)
	require.ErrorIs(t, stays.beat(), kerr.RebalanceInProgress)
	require.NoError(t, stays.join(t.Context()))
	stays.sync()
	require.Equal(t, 2, members(), "it has died while it waited")

	require.Eventually(t, func() bool {
		if err := stays.beat(); err != nil {
			require.ErrorIs(t, err, kerr.RebalanceInProgress)
		}
		return members() == 1
	}, 30*time.Second, 100*time.Millisecond)
}
