// Package pubsubtest tests what every [pubsub.Bus] must do.
package pubsubtest

import (
	"testing"

	"millrace/infra/pubsub"
)

// Factory is a bus to test. Its topic is new, has at least two partitions and no records.
type Factory struct {
	Bus   pubsub.Bus
	Topic string
	// NoRebalance says why members of a group do not share partitions. It is empty if they do.
	NoRebalance string

	start map[int32]int64 // the end of the log before the test publishes anything
}

// Run runs the suite. Every test gets a bus of its own, and closes only its subscribers, except where closing is what it
// tests.
func Run(t *testing.T, open func(*testing.T) Factory) {
	for name, test := range map[string]func(*testing.T, Factory){
		"a key has one partition":                                 keyHasOnePartition,
		"a key's messages keep their order":                       keysKeepOrder,
		"concurrent publishers lose and double nothing":           concurrentPublishers,
		"metadata, payload, id and key arrive":                    messagesArriveWhole,
		"a message without a key arrives":                         keylessArrives,
		"a refused message comes again before later ones":         refusedComesAgain,
		"a refused message holds up its partition alone":          refusedHoldsOnePartition,
		"a bundle has its records in order and with positions":    bundleIsInOrder,
		"a bundle says which of its records are replays":          bundleSaysWhatIsAReplay,
		"of a bundle given back only the rest comes again":        bundleComesAgain,
		"groups are independent":                                  groupsAreIndependent,
		"everybody sees the same ascending positions":             positionsAgree,
		"who reads the log sees the headers":                      headersAreRead,
		"end, committed and read agree":                           logAgrees,
		"read keeps to its ranges":                                readKeepsToRanges,
		"read ends with the visitor's error":                      readEndsWithError,
		"read skips the rest of a range":                          readSkipsTheRest,
		"a group goes on where it acknowledged":                   groupGoesOn,
		"a group goes back to what its handler has kept":          groupGoesBack,
		"a new group begins where it is told, once":               groupBeginsWhereTold,
		"a group without members can be deleted":                  groupIsDeleted,
		"a message not acknowledged before the end comes again":   unacknowledgedComesAgain,
		"assignments come before messages and releases after":     assignmentsFrameMessages,
		"a rebalance does not wait for a message that is refused": rebalanceWhileRefusing,
		"a closed bus refuses":                                    closedBusRefuses,
		"a closed subscriber refuses":                             closedSubscriberRefuses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			f := open(t)
			f.start = f.end(t)
			test(t, f)
		})
	}
}
