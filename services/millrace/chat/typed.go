package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/events"
	"millrace/services/client"
)

const chatHelp = `/to USER                    chat with a user
/reply TEXT                 answer the newest message of somebody else
/mention USER TEXT          send a message that mentions a user
/extra JSON TEXT            send a message with a JSON object without spaces
/pin /unpin /hide /unhide   put this conversation first or out of sight, for clients with a list
/silence MINUTES            want no notifications of this conversation for so long; 0 ends it
/readers                    show who has read all that is shown
/seen USER...               tell who is online, and when the others were last seen
/block USER /unblock USER   refuse what a user writes to you alone, or no longer
/blocked                    show whom you block
/history [N]                show the N newest messages (20)
/group create NAME USER...  create a group and chat in it
/group open NAME USER...    create a group that anybody may join, and chat in it
/group join ID              chat in a group, joining it if need be
/group add|remove USER      change the members of this group; its owner and admins may
/group rename NAME          give this group another name; its owner and admins may
/group mute USER MINUTES    keep a member from writing for so long, or with all instead of USER everybody; 0 ends it
/group admin|member USER    make a member an admin, or an admin a member again; its owner may
/group owner USER           give this group to another member; its owner may
/group dissolve             end this group for everybody; its owner may
/group info                 show this group
/group leave                leave this group
/quit                       end; so does the end of the input`

var errUsage = errors.New("not understood; /help lists the commands")

// command runs a line that begins with a slash.
func (h *chat) command(ctx context.Context, line string) (quit bool, err error) {
	words := strings.Fields(line)
	switch args := words[1:]; words[0] {
	case "/quit":
		return true, nil
	case "/help":
		for text := range strings.Lines(chatHelp) {
			h.print.state("%s", strings.TrimSpace(text))
		}
		return false, nil
	case "/history":
		n := historyAtStart
		if len(args) == 1 {
			n, err = strconv.Atoi(args[0])
		}
		if err != nil || n < 1 || n > 200 || len(args) > 1 {
			return false, errors.New("/history [N]: N is from 1 to 200")
		}
		return false, h.showHistory(ctx, n)
	case "/to":
		if len(args) != 1 {
			return false, errUsage
		}
		user, err := parseID(args[0])
		if err != nil {
			return false, err
		}
		return false, h.enter(ctx, client.ToUser(user))
	case "/pin", "/unpin", "/hide", "/unhide", "/silence":
		return false, h.set(ctx, words[0], args)
	case "/readers":
		return false, h.showReaders(ctx)
	case "/reply", "/mention", "/extra":
		return false, h.postWith(ctx, words[0], strings.TrimSpace(line[len(words[0]):]))
	case "/seen":
		return false, h.seen(ctx, args)
	case "/block", "/unblock", "/blocked":
		return false, h.block(ctx, words[0], args)
	case "/group":
		return false, h.groupCommand(ctx, args)
	}
	return false, errUsage
}

// set changes a setting of the present conversation.
func (h *chat) set(ctx context.Context, command string, args []string) error {
	r := client.Settings{Conversation: h.view.where()}
	switch {
	case r.Conversation == "":
		return errors.New("in which conversation? Use /to USER or /group join ID")
	case command == "/silence" && len(args) == 1:
		minutes, err := strconv.ParseUint(args[0], 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no number of minutes", args[0])
		}
		r.MutedUntil = new(int64)
		if minutes > 0 {
			*r.MutedUntil = time.Now().Add(time.Duration(minutes) * time.Minute).Unix()
		}
	case command == "/silence" || len(args) > 0:
		return errUsage
	case command == "/pin" || command == "/unpin":
		r.Pinned = new(command == "/pin")
	default:
		r.Hidden = new(command == "/hide")
	}
	return h.client.Do(ctx, r)
}

// postWith sends what follows a command as a message that has more than content.
func (h *chat) postWith(ctx context.Context, command, rest string) (err error) {
	m := client.Send{Content: rest}
	if command == "/reply" {
		if m.ReplyTo = h.view.answerable(); m.ReplyTo == "" {
			return errors.New("there is no message to answer here")
		}
	} else {
		var first string
		if first, m.Content, _ = strings.Cut(rest, " "); command == "/extra" {
			m.Extra = events.Extra(first)
			if !json.Valid(m.Extra) {
				err = fmt.Errorf("%q is no JSON", first)
			}
		} else {
			m.Mentions, err = parseIDs([]string{first})
		}
	}
	switch {
	case err != nil:
		return err
	case m.Content == "":
		return errUsage
	}
	return h.post(ctx, m)
}

// seen prints who is online. From then on their coming and going is printed too.
func (h *chat) seen(ctx context.Context, words []string) error {
	users, err := parseIDs(words)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		return errUsage
	}
	present, err := h.client.Presence(ctx, users...)
	if err != nil {
		return err
	}
	for _, user := range users {
		at, known := present.LastSeen[user]
		switch {
		case slices.Contains(present.Online, user):
			h.print.note("%d is online", user)
		case known:
			h.print.note("%d was last seen at %s", user, time.Unix(at, 0).Format(time.DateTime))
		default:
			h.print.note("%d is not online", user)
		}
	}
	return nil
}

func (h *chat) groupCommand(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	if verb == "create" || verb == "open" {
		if len(args) == 0 {
			return errors.New("/group create NAME USER…, or /group open NAME USER… for one that anybody may join")
		}
		members, err := parseIDs(args[1:])
		if err != nil {
			return err
		}
		create := client.GroupCreate{Name: args[0], Members: members}
		if verb == "open" {
			create.Join = events.JoinOpen
		}
		g, err := h.client.Group(ctx, create)
		if err != nil {
			return err
		}
		h.print.note("group %d %s is there: /group join %d, or --group=%d", g.GroupID, g.Name, g.GroupID, g.GroupID)
		return h.enter(ctx, client.ToGroup(g.GroupID))
	}
	var ids []int64
	if verb != "rename" && verb != "mute" {
		var err error
		if ids, err = parseIDs(args); err != nil {
			return err
		}
	}
	if verb == "join" && len(ids) == 1 {
		if _, err := h.client.Group(ctx, client.GroupJoin{GroupID: ids[0]}); err != nil {
			return err
		}
		return h.enter(ctx, client.ToGroup(ids[0]))
	}
	group := h.view.target().GroupID
	if group == 0 {
		return errors.New("you are in no group: /group join ID")
	}
	var request client.Request
	switch {
	case verb == "add" && len(ids) == 1:
		request = client.GroupAdd{GroupID: group, User: ids[0]}
	case verb == "remove" && len(ids) == 1:
		request = client.GroupRemove{GroupID: group, User: ids[0]}
	case verb == "mute" && len(args) == 2:
		mute, err := muteOf(group, args[0], args[1])
		if err != nil {
			return err
		}
		request = mute
	case events.Role(verb).Validate() == nil && len(ids) == 1:
		request = client.GroupRole{GroupID: group, User: ids[0], Role: events.Role(verb)}
	case verb == "rename" && len(args) > 0:
		request = client.GroupRename{GroupID: group, Name: strings.Join(args, " ")}
	case verb == "dissolve" && len(ids) == 0:
		request = client.GroupDissolve{GroupID: group}
	case verb == "info" && len(ids) == 0:
		request = client.GroupInfo{GroupID: group}
	case verb == "leave" && len(ids) == 0:
		request = client.GroupLeave{GroupID: group}
	default:
		return errUsage
	}
	g, err := h.client.Group(ctx, request)
	switch {
	case err != nil:
		return err
	case verb == "leave":
		h.view.enter(client.Target{})
		h.view.release()
		h.print.note("you have left group %d", group)
	case g.GroupID != 0:
		slices.Sort(g.Members)
		h.print.note("group %d %s, owner %d%s, members %v%s", g.GroupID, g.Name, g.Owner, adminsOf(g), g.Members, mutesOf(g))
	default:
		h.print.note("done")
	}
	return nil
}

// enter moves to another conversation and prints its newest messages.
func (h *chat) enter(ctx context.Context, to client.Target) error {
	h.view.enter(to)
	defer h.view.release()
	return h.showHistory(ctx, historyAtStart)
}

func parseIDs(words []string) ([]int64, error) {
	ids := make([]int64, len(words))
	for i, w := range words {
		var err error
		if ids[i], err = parseID(w); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func parseID(word string) (int64, error) {
	id, err := strconv.ParseInt(word, 10, 64)
	if err != nil || id < 1 || id > events.MaxID {
		return 0, fmt.Errorf("%q is no id", word)
	}
	return id, nil
}
