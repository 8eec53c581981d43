package events

import millracev1 "millrace/proto/millrace/v1"

// Audience says for whom a notice is: for the users, or for those whose token has the user_type and the region, as far as they
// are set. The zero value is everybody.
type Audience struct {
	Users    []int64 `json:"users,omitempty"`
	UserType string  `json:"user_type,omitempty"`
	Region   string  `json:"region,omitempty"`
}

func (e *Event) validateNotice() error {
	if e.NoticeID == "" || len(e.NoticeID) > MaxClientMsgBytes {
		return invalid("notice_id of %d bytes", len(e.NoticeID))
	}
	if err := ValidateContent(e.Content); err != nil {
		return err
	}
	if err := e.Extra.Validate(); err != nil {
		return err
	}
	if e.To == nil {
		return nil
	}
	return e.To.validate()
}

func (a *Audience) validate() error {
	switch {
	case a.Users == nil:
	case len(a.Users) == 0:
		// Whoever selects users and finds none does not mean everybody.
		return invalid("to: no users in the list of users")
	case len(a.Users) > MaxNoticeUsers:
		return invalid("to: %d users, more than %d", len(a.Users), MaxNoticeUsers)
	case a.UserType != "" || a.Region != "":
		return invalid("to: want either users, or a user_type and a region")
	}
	for _, user := range a.Users {
		if !validID(user) {
			return invalid("to: user %d", user)
		}
	}
	if n := max(len(a.UserType), len(a.Region)); n > MaxClaimBytes {
		return invalid("to: a user_type or region of %d bytes, more than %d", n, MaxClaimBytes)
	}
	return nil
}

// NoticeOf returns the notice of a [SystemNotice] event as gateways get it.
func NoticeOf(e *Event) (*millracev1.Notice, error) {
	push := Push{Type: SystemNotice, NoticeID: e.NoticeID, Content: e.Content, Extra: e.Extra}
	frame, err := push.frame()
	if err != nil {
		return nil, err
	}
	n := &millracev1.Notice{NoticeId: e.NoticeID, Push: frame}
	if e.To != nil {
		n.Users, n.UserType, n.Region = e.To.Users, e.To.UserType, e.To.Region
	}
	return n, nil
}
