package message

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// governed is a group of user 1 with the members 2, 3 and 4.
type governed struct {
	*node
	t  *testing.T
	id int64
}

func newGoverned(t *testing.T) governed {
	t.Helper()
	n := newNode(t, memory.Config{})
	n.storing(t)
	return governed{n, t, n.group(t, 2, 3, 4).GetGroupId()}
}

func (g governed) role(user, of int64, role, key string) (*millracev1.Group, error) {
	answer, err := g.ChangeRole(g.t.Context(), &millracev1.ChangeRoleRequest{Sender: by(user), GroupId: g.id, User: of, Role: role, ClientMsgId: key})
	return answer.GetGroup(), err
}

func (g governed) mute(user, of, until int64, key string) (*millracev1.Group, error) {
	answer, err := g.MuteMember(g.t.Context(), &millracev1.MuteMemberRequest{Sender: by(user), GroupId: g.id, User: of, Until: until, ClientMsgId: key})
	return answer.GetGroup(), err
}

func (g governed) add(user, of int64) error {
	return second(g.AddMember(g.t.Context(), &millracev1.AddMemberRequest{Sender: by(user), GroupId: g.id, User: of}))
}

func (g governed) remove(user, of int64) error {
	return second(g.RemoveMember(g.t.Context(), &millracev1.RemoveMemberRequest{Sender: by(user), GroupId: g.id, User: of}))
}

func (g governed) say(user int64, text string) (string, error) {
	answer, err := g.SendWSMessage(g.t.Context(), &millracev1.SendWSMessageRequest{Sender: by(user), GroupId: g.id, Content: text})
	return answer.GetMessageId(), err
}

func (g governed) recall(user int64, message string) error {
	return second(g.RecallMessage(g.t.Context(), &millracev1.RecallMessageRequest{User: user, Conversation: events.Group(g.id), MessageId: message}))
}

func (g governed) changed() int { return len(changesOn(g.t, g.node, events.TopicMessages)) }

func TestOwnerGivesAndTakesRolesAndRepeatsDoNothing(t *testing.T) {
	g := newGoverned(t)
	for range 2 {
		group, err := g.role(1, 2, "admin", "")
		require.NoError(t, err)
		require.Equal(t, []int64{2}, group.GetAdmins())
	}
	require.Equal(t, 2, g.changed(), "the creation and one role")
	_, err := g.role(1, 2, "member", "")
	require.NoError(t, err)
	group, err := g.role(1, 2, "admin", "a")
	require.NoError(t, err)
	require.Equal(t, []int64{2}, group.GetAdmins())
	_, err = g.role(1, 2, "member", "b")
	require.NoError(t, err)
	group, err = g.role(1, 2, "admin", "a")
	require.NoError(t, err, "a late repeat")
	require.Empty(t, group.GetAdmins())
	require.Equal(t, 5, g.changed())
}

func TestOwnerThatGivesTheGroupAwayIsAnAdmin(t *testing.T) {
	g := newGoverned(t)
	for _, key := range []string{"", "", "k", "k"} { // also when it repeats that, as an admin
		group, err := g.role(1, 2, "owner", key)
		require.NoError(t, err)
		require.EqualValues(t, 2, group.GetOwner())
		require.Equal(t, []int64{1}, group.GetAdmins())
	}
	require.Equal(t, 2, g.changed())
	requireCode(t, codes.PermissionDenied, second(g.role(1, 3, "admin", "")))
	requireCode(t, codes.PermissionDenied, second(g.DissolveGroup(t.Context(), &millracev1.DissolveGroupRequest{Sender: by(1), GroupId: g.id})))
	require.NoError(t, g.remove(1, 4), "an admin still")
	require.NoError(t, second(g.LeaveGroup(t.Context(), &millracev1.LeaveGroupRequest{Sender: by(1), GroupId: g.id})))
	requireCode(t, codes.NotFound, second(g.role(1, 2, "owner", "k")))

	require.NoError(t, g.add(2, 1))
	group, err := g.role(2, 3, "admin", "")
	require.NoError(t, err)
	require.Equal(t, []int64{3}, group.GetAdmins(), "who left has lost the role")
}

func TestAdminsDoWhatTheyMayAndNoMore(t *testing.T) {
	g := newGoverned(t)
	for _, admin := range []int64{2, 3} {
		require.NoError(t, second(g.role(1, admin, "admin", "")))
	}
	require.NoError(t, g.add(2, 5))
	require.NoError(t, g.remove(2, 5))
	require.NoError(t, g.remove(2, 5), "nobody is removed twice")
	renamed, err := g.RenameGroup(t.Context(), &millracev1.RenameGroupRequest{Sender: by(2), GroupId: g.id, Name: "ours"})
	require.NoError(t, err)
	require.Equal(t, "ours", renamed.GetGroup().GetName())
	require.NoError(t, second(g.mute(2, 4, 0, "")), "nothing to end")
	for code, refused := range map[codes.Code][]error{
		codes.PermissionDenied: {
			g.remove(2, 3), g.remove(2, 1), second(g.mute(2, 3, 9_999_999_999, "")), second(g.mute(2, 1, 9_999_999_999, "")),
			second(g.role(2, 4, "admin", "")), second(g.role(4, 4, "admin", "")), second(g.mute(4, 3, 5, "")), g.add(4, 5), g.remove(4, 4),
		},
		codes.InvalidArgument: {
			second(g.role(1, 2, "king", "")), second(g.role(1, 2, "", "")), second(g.role(1, 9, "admin", "")), second(g.role(1, 0, "admin", "")),
			second(g.role(1, 1, "admin", "")), second(g.role(1, 2, "member", strings.Repeat("x", 65))), g.remove(2, 2), g.remove(1, 1),
			second(g.mute(1, 9, 5, "")), second(g.mute(1, -1, 5, "")), second(g.mute(1, 4, -5, "")), second(g.mute(1, 4, 1642678800000, "")),
			second(g.mute(1, 4, 5, strings.Repeat("x", 65))),
		},
		codes.NotFound: {second(g.role(9, 2, "admin", "")), second(g.mute(9, 0, 5, "")), g.remove(9, 2)},
	} {
		for i, err := range refused {
			require.Equal(t, code, status.Code(err), "%d: %v", i, err)
		}
	}
	require.NoError(t, g.remove(1, 3))
}

func TestMutedMembersWriteNothingUntilThen(t *testing.T) {
	g := newGoverned(t)
	mine, err := g.say(2, "before")
	require.NoError(t, err)
	edit := func() error {
		return second(g.EditMessage(t.Context(), &millracev1.EditMessageRequest{User: 2, Conversation: events.Group(g.id), MessageId: mine, Content: "x"}))
	}
	until := time.Now().Add(time.Hour).Unix()
	group, err := g.mute(1, 2, until, "")
	require.NoError(t, err)
	require.Equal(t, map[int64]int64{2: until}, group.GetMuted())
	_, err = g.say(2, "muted")
	requireCode(t, codes.PermissionDenied, err)
	require.ErrorContains(t, err, "muted in group")
	requireCode(t, codes.PermissionDenied, edit())
	require.NoError(t, second(g.say(3, "not muted")))
	require.NoError(t, g.recall(2, mine), "nobody is kept from taking back what it said")

	group, err = g.mute(1, 0, until, "a")
	require.NoError(t, err)
	require.Equal(t, until, group.GetMutedUntil())
	requireCode(t, codes.PermissionDenied, second(g.say(3, "all are muted")))
	require.NoError(t, second(g.say(1, "but the owner")))
	require.NoError(t, second(g.role(1, 3, "admin", "")))
	require.NoError(t, second(g.say(3, "and admins")))

	for _, of := range []int64{0, 2} {
		group, err = g.mute(3, of, 0, "")
		require.NoError(t, err)
	}
	require.Empty(t, group.GetMuted())
	require.Zero(t, group.GetMutedUntil())
	require.NoError(t, second(g.say(2, "again")))
	group, err = g.mute(1, 0, until, "a")
	require.NoError(t, err, "a late repeat")
	require.Zero(t, group.GetMutedUntil())
	_, err = g.mute(1, 2, 1, "")
	require.NoError(t, err)
	require.NoError(t, second(g.say(2, "that was over before it began")))
}

func TestAdminsRecallWhatOthersSayInTheirGroup(t *testing.T) {
	g := newGoverned(t)
	said, err := g.say(3, "to be recalled")
	require.NoError(t, err)
	owners, err := g.say(1, "the owner's")
	require.NoError(t, err)
	requireCode(t, codes.PermissionDenied, g.recall(2, said))
	require.NoError(t, second(g.role(1, 2, "admin", "")))
	for range 2 {
		require.NoError(t, g.recall(2, said))
	}
	require.NoError(t, g.recall(2, owners))
	requireCode(t, codes.NotFound, g.recall(2, "unknown"))
	requireCode(t, codes.NotFound, g.recall(9, said))
	page, err := g.History(t.Context(), &millracev1.HistoryRequest{User: 4, Conversation: events.Group(g.id)})
	require.NoError(t, err)
	for _, m := range page.GetMessages() {
		require.True(t, m.GetRecalled())
	}

	direct, err := g.SendWSMessage(t.Context(), &millracev1.SendWSMessageRequest{Sender: by(3), To: 2, Content: "private"})
	require.NoError(t, err)
	requireCode(t, codes.PermissionDenied, second(g.RecallMessage(t.Context(), &millracev1.RecallMessageRequest{
		User: 2, Conversation: direct.GetConversation(), MessageId: direct.GetMessageId(),
	})))
}

// Between the check of the verb and its record, the log gets a change that takes the right away.
func TestWhatIsOvertakenOnItsWayToTheLogHasNoEffectAndIsNotAnsweredWithSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		before events.Event
		verb   func(g governed, said string) error
	}{
		"an admin that is demoted adds":    {given(2, events.RoleMember), func(g governed, _ string) error { return g.add(2, 5) }},
		"an admin that is demoted removes": {given(2, events.RoleMember), func(g governed, _ string) error { return g.remove(2, 3) }},
		"an admin that is demoted mutes":   {given(2, events.RoleMember), func(g governed, _ string) error { return second(g.mute(2, 3, 9_999_999_999, "k")) }},
		"an admin that is demoted recalls": {given(2, events.RoleMember), func(g governed, said string) error { return g.recall(2, said) }},
		"an admin that is demoted renames": {given(2, events.RoleMember), func(g governed, _ string) error {
			return second(g.RenameGroup(g.t.Context(), &millracev1.RenameGroupRequest{Sender: by(2), GroupId: g.id, Name: "mine"}))
		}},
		"a member that is promoted is removed": {given(3, events.RoleAdmin), func(g governed, _ string) error { return g.remove(2, 3) }},
		"a former owner gives roles":           {given(2, events.RoleOwner), func(g governed, _ string) error { return second(g.role(1, 3, "admin", "")) }},
		"a former owner dissolves": {given(2, events.RoleOwner), func(g governed, _ string) error {
			return second(g.DissolveGroup(g.t.Context(), &millracev1.DissolveGroupRequest{Sender: by(1), GroupId: g.id}))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGoverned(t)
			said, err := g.say(3, "hello")
			require.NoError(t, err)
			require.NoError(t, second(g.role(1, 2, "admin", "")))
			was, err := g.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 3, GroupId: g.id})
			require.NoError(t, err)

			c.before.GroupID, c.before.Conversation = g.id, events.Group(g.id)
			publisher := g.bus.Bus.Publisher()
			g.bus.instead = func(topic string, records ...*message.Message) error {
				g.bus.instead = nil
				overtaking, err := newRecord(&c.before, nil, "")
				require.NoError(t, err)
				require.NoError(t, publisher.Publish(events.TopicMessages, overtaking))
				return publisher.Publish(topic, records...)
			}
			requireCode(t, codes.Unavailable, c.verb(g, said))
			requireCode(t, codes.PermissionDenied, c.verb(g, said))
			is, err := g.GetGroup(t.Context(), &millracev1.GetGroupRequest{User: 3, GroupId: g.id})
			require.NoError(t, err)
			require.Equal(t, was.GetGroup().GetMembers(), is.GetGroup().GetMembers())
			require.Equal(t, was.GetGroup().GetName(), is.GetGroup().GetName())
			require.Empty(t, is.GetGroup().GetMuted())
			m, err := g.db.Message(t.Context(), events.Group(g.id), said)
			require.NoError(t, err)
			require.False(t, m.Recalled)
		})
	}
}

// given is a role that user 1 gives.
func given(user int64, role events.Role) events.Event {
	return events.Event{Type: events.MemberRole, EventID: "overtaking", User: user, By: 1, Role: role, Timestamp: 5}
}
