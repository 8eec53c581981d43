package message

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"millrace/events"
	"millrace/infra/pubsub/memory"
	millracev1 "millrace/proto/millrace/v1"
)

// The users of the table: one who never was in the group, one whom the owner has removed, one who has left it, a member, an
// admin, and the owner. Somebody is the user whom they add and remove.
const (
	stranger, expelled, departed, member, admin, owner, somebody = 11, 12, 13, 14, 15, 16, 17

	secret = 7 // the group
)

// access is the table: for every verb and state of the group it has the outcome for each of the users above. ok: it is done;
// -: no such group; denied: a member is told that it may not.
const access = `
of a closed group  | stranger expelled departed member admin  owner
send               | -        -        -        ok     ok     ok
history            | -        ok       ok       ok     ok     ok
read               | -        -        -        ok     ok     ok
edit               | -        -        -        ok     ok     ok
recall             | -        ok       ok       ok     ok     ok
group_info         | -        -        -        ok     ok     ok
settings           | -        -        -        ok     ok     ok
readers            | -        -        -        ok     ok     ok
group_join         | -        -        ok       ok     ok     ok
group_leave        | -        ok       ok       ok     ok     ok
group_add          | -        -        -        denied ok     ok
group_remove       | -        -        -        denied ok     ok
group_rename       | -        -        -        denied ok     ok
group_dissolve     | -        -        -        denied denied ok
conversations      | -        -        -        ok     ok     ok
group_role         | -        -        -        denied denied ok
group_mute         | -        -        -        denied ok     ok
recall_foreign     | -        -        ok       denied ok     ok

of an open group   | stranger expelled departed member admin  owner
send               | -        -        -        ok     ok     ok
history            | -        ok       ok       ok     ok     ok
read               | -        -        -        ok     ok     ok
edit               | -        -        -        ok     ok     ok
recall             | -        ok       ok       ok     ok     ok
group_info         | -        -        -        ok     ok     ok
settings           | -        -        -        ok     ok     ok
readers            | -        -        -        ok     ok     ok
group_join         | ok       ok       ok       ok     ok     ok
group_leave        | -        ok       ok       ok     ok     ok
group_add          | -        -        -        denied ok     ok
group_remove       | -        -        -        denied ok     ok
group_rename       | -        -        -        denied ok     ok
group_dissolve     | -        -        -        denied denied ok
conversations      | -        -        -        ok     ok     ok
group_role         | -        -        -        denied denied ok
group_mute         | -        -        -        denied ok     ok
recall_foreign     | -        -        ok       denied ok     ok

of a dissolved one | stranger expelled departed member admin  owner
send               | -        -        -        -      -      -
history            | -        ok       ok       ok     ok     ok
read               | -        -        -        -      -      -
edit               | -        -        -        -      -      -
recall             | -        ok       ok       ok     ok     ok
group_info         | -        -        -        -      -      -
settings           | -        -        -        -      -      -
readers            | -        -        -        -      -      -
group_join         | -        -        -        -      -      -
group_leave        | -        ok       ok       ok     ok     ok
group_add          | -        -        -        -      -      -
group_remove       | -        -        -        -      -      -
group_rename       | -        -        -        -      -      -
group_dissolve     | -        -        -        -      -      ok
conversations      | -        -        -        -      -      -
group_role         | -        -        -        -      -      -
group_mute         | -        -        -        -      -      -
recall_foreign     | -        -        ok       -      -      -

of none            | stranger expelled departed member admin  owner
send               | -        -        -        -      -      -
history            | -        -        -        -      -      -
read               | -        -        -        -      -      -
edit               | -        -        -        -      -      -
recall             | -        -        -        -      -      -
group_info         | -        -        -        -      -      -
settings           | -        -        -        -      -      -
readers            | -        -        -        -      -      -
group_join         | -        -        -        -      -      -
group_leave        | -        -        -        -      -      -
group_add          | -        -        -        -      -      -
group_remove       | -        -        -        -      -      -
group_rename       | -        -        -        -      -      -
group_dissolve     | -        -        -        -      -      -
conversations      | -        -        -        -      -      -
group_role         | -        -        -        -      -      -
group_mute         | -        -        -        -      -      -
recall_foreign     | -        -        -        -      -      -
`

func TestGroupIsThereForItsMembersAlone(t *testing.T) {
	for _, table := range strings.Split(strings.TrimSpace(access), "\n\n") {
		rows := strings.Split(table, "\n")
		state, _, _ := strings.Cut(rows[0], "|")
		state = strings.TrimSpace(state)
		require.Len(t, rows, 19, state)
		for _, row := range rows[1:] {
			verb, cells, _ := strings.Cut(row, "|")
			verb = strings.TrimSpace(verb)
			for i, want := range strings.Fields(cells) {
				user := int64(stranger + i)
				t.Run(strings.Join([]string{verb, state, "by", strings.Fields(rows[0])[len(strings.Fields(state))+1+i]}, " "), func(t *testing.T) {
					t.Parallel()
					n := newNode(t, memory.Config{})
					n.storing(t)
					prepare(t, n, state)
					err := ask(t, n, verb, user)
					switch want {
					case "ok":
						require.NoError(t, err)
					case "denied":
						requireCode(t, codes.PermissionDenied, err)
					default:
						for status.Code(err) == codes.Unavailable { // the store did not say in time
							err = ask(t, n, verb, user)
						}
						require.Equal(t, status.New(codes.NotFound, "no such group").String(), status.Convert(err).String())
					}
				})
			}
		}
	}
}

// prepare brings the group into the state. Everybody who was in it has sent one message.
func prepare(t *testing.T, n *node, state string) {
	t.Helper()
	if state == "of none" {
		return
	}
	all := []int64{expelled, departed, member, admin, owner}
	begin := change(events.GroupCreated, secret, owner, 0, all...)
	if state != "of an open group" {
		begin.Join = ""
	}
	log := []events.Event{begin}
	for _, user := range all {
		log = append(log, saidIn(secret, user, strconv.FormatInt(user, 10)))
	}
	removal := change(events.MemberLeft, secret, expelled, 1)
	removal.By = owner
	promotion := change(events.MemberRole, secret, admin, 1)
	promotion.By, promotion.Role = owner, events.RoleAdmin
	log = append(log, promotion, removal, change(events.MemberLeft, secret, departed, 1))
	if state == "of a dissolved one" {
		log = append(log, change(events.GroupDissolved, secret, owner, 1))
	}
	n.publish(t, log...)
	eventually(t, func() bool {
		stored, err := n.db.Stored(t.Context())
		return err == nil && reached(n.end(t), stored)
	})
}

// ask makes the request of the verb. Edits and recalls are of the user's own message, if it has sent one.
func ask(t *testing.T, n *node, verb string, user int64) error {
	t.Helper()
	ctx, room := t.Context(), events.Group(secret)
	message := events.MessageID(user, room, strconv.FormatInt(user, 10))
	switch verb {
	case "send":
		return second(n.SendWSMessage(ctx, &millracev1.SendWSMessageRequest{Sender: by(user), GroupId: secret, Content: "x"}))
	case "history":
		page, err := n.History(ctx, &millracev1.HistoryRequest{User: user, Conversation: room})
		if err == nil {
			require.Len(t, page.GetMessages(), 5)
		}
		return err
	case "read":
		return second(n.MarkRead(ctx, &millracev1.MarkReadRequest{User: user, Conversation: room, Seq: 2}))
	case "settings":
		return second(n.ChangeSettings(ctx, &millracev1.ChangeSettingsRequest{User: user, Conversation: room, Pinned: new(true)}))
	case "readers":
		return second(n.Readers(ctx, &millracev1.ReadersRequest{User: user, Conversation: room, Seq: 2}))
	case "edit":
		return second(n.EditMessage(ctx, &millracev1.EditMessageRequest{User: user, Conversation: room, MessageId: message, Content: "y"}))
	case "recall":
		return second(n.RecallMessage(ctx, &millracev1.RecallMessageRequest{User: user, Conversation: room, MessageId: message}))
	case "group_info":
		return second(n.GetGroup(ctx, &millracev1.GetGroupRequest{User: user, GroupId: secret}))
	case "group_join":
		return second(n.JoinGroup(ctx, &millracev1.JoinGroupRequest{Sender: by(user), GroupId: secret}))
	case "group_leave":
		return second(n.LeaveGroup(ctx, &millracev1.LeaveGroupRequest{Sender: by(user), GroupId: secret}))
	case "group_add":
		return second(n.AddMember(ctx, &millracev1.AddMemberRequest{Sender: by(user), GroupId: secret, User: somebody}))
	case "group_remove":
		return second(n.RemoveMember(ctx, &millracev1.RemoveMemberRequest{Sender: by(user), GroupId: secret, User: somebody}))
	case "group_rename":
		return second(n.RenameGroup(ctx, &millracev1.RenameGroupRequest{Sender: by(user), GroupId: secret, Name: "another"}))
	case "group_role":
		return second(n.ChangeRole(ctx, &millracev1.ChangeRoleRequest{Sender: by(user), GroupId: secret, User: member, Role: "admin"}))
	case "group_mute":
		return second(n.MuteMember(ctx, &millracev1.MuteMemberRequest{Sender: by(user), GroupId: secret, Until: 9_999_999_999}))
	case "recall_foreign":
		message = events.MessageID(departed, room, strconv.Itoa(departed))
		return second(n.RecallMessage(ctx, &millracev1.RecallMessageRequest{User: user, Conversation: room, MessageId: message}))
	case "group_dissolve":
		return second(n.DissolveGroup(ctx, &millracev1.DissolveGroupRequest{Sender: by(user), GroupId: secret}))
	case "conversations":
		list, err := n.Conversations(ctx, &millracev1.ConversationsRequest{User: user})
		if err == nil && len(list.GetConversations()) == 0 {
			err = status.Error(codes.NotFound, "no such group") // an empty list means the same
		}
		return err
	}
	require.Fail(t, "no such verb", verb)
	return nil
}
