package chat

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/services/client"
)

// muteOf returns the request to mute the user, or all of the group, for so many minutes from now on.
func muteOf(group int64, who, minutes string) (client.GroupMute, error) {
	mute := client.GroupMute{GroupID: group}
	if who != "all" {
		var err error
		if mute.User, err = parseID(who); err != nil {
			return mute, err
		}
	}
	n, err := strconv.ParseUint(minutes, 10, 32)
	if err != nil {
		return mute, fmt.Errorf("%q is no number", minutes)
	}
	if n > 0 {
		mute.Until = time.Now().Add(time.Duration(n) * time.Minute).Unix()
	}
	return mute, nil
}

// adminsOf tells who are the group's admins, if it has any.
func adminsOf(g client.Group) string {
	if len(g.Admins) == 0 {
		return ""
	}
	return fmt.Sprintf(", admins %v", g.Admins)
}

// mutesOf tells who is muted in the group until when.
func mutesOf(g client.Group) string {
	var all strings.Builder
	for _, user := range slices.Sorted(maps.Keys(g.Muted)) {
		fmt.Fprintf(&all, ", %d muted until %s", user, clock(g.Muted[user]))
	}
	if g.MutedUntil != 0 {
		fmt.Fprintf(&all, ", all muted until %s", clock(g.MutedUntil))
	}
	return all.String()
}

// noteOfMute tells of a change of a mute in the words of a note.
func noteOfMute(p client.Push) string {
	who := "all"
	if p.User != 0 {
		who = strconv.FormatInt(p.User, 10)
	}
	if p.Until == nil || *p.Until == 0 {
		return fmt.Sprintf("%s may write in group %d again", who, p.GroupID)
	}
	return fmt.Sprintf("%s muted in group %d until %s", who, p.GroupID, clock(*p.Until))
}

func clock(seconds int64) string { return time.Unix(seconds, 0).Format(time.DateTime) }
