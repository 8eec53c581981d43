package proof

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// chaosTraffic is how long clients send in a run. Every fault is over before that.
	chaosTraffic = 24 * time.Second
	// chaosEvery is the mean time between the beginnings of two faults.
	chaosEvery = 1200 * time.Millisecond
)

// harm is a kind of fault.
type harm string

const (
	killed   harm = "kill -9"       // a process, started again after the duration
	frozen   harm = "SIGSTOP"       // a process, until SIGCONT
	renewed  harm = "restart"       // a process that is asked to stop, and started again at once
	joined   harm = "joins, leaves" // one more storage worker, or a second version of other handlers
	cutOff   harm = "cut off"       // a gateway from a message node
	slowed   harm = "slow"          // what a message node sends to a gateway
	dropped  harm = "client cut"    // and cut again in the middle of what it missed
	stalled  harm = "slow reader"   // a client that reads nothing
	garbled  harm = "garbage"       // invalid frames and bytes, on sockets of their own
	repeated harm = "sent twice"    // one message over both gateways at once, again and again

	topicLost harm = "topic deleted"  // while nobody speaks
	logCut    harm = "log cut"        // the ends of partitions are gone, while nobody speaks
	storeBack harm = "store put back" // as it was before the duration
)

// fault is one step of a schedule. It begins at a time after the traffic began, has a duration, and concerns a process, a
// proxy or a client.
type fault struct {
	At     time.Duration `json:"at"`
	For    time.Duration `json:"for"`
	Harm   harm          `json:"harm"`
	Target string        `json:"target"`
	index  int           // of the proxy, of the client, or among the faults
	bytes  int           // after so many bytes a client is cut again
	seed   uint64        // of what is cut
}

func (f fault) String() string {
	return fmt.Sprintf("%6.1f s  %s %s for %.1f s", f.At.Seconds(), f.Harm, f.Target, f.For.Seconds())
}

// losses draws one or two losses of a run. Only a store in SQLite is put back.
func losses(seed uint64, inMongoDB bool) (faults []fault) {
	harms := []harm{topicLost, logCut, storeBack}
	if inMongoDB {
		harms = harms[:2]
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range 1 + random.IntN(2) {
		f := fault{
			At:   time.Duration(3+8*i)*time.Second + time.Duration(random.Int64N(int64(5*time.Second))).Truncate(time.Millisecond),
			Harm: harms[random.IntN(len(harms))], seed: random.Uint64(),
		}
		if f.Harm == storeBack {
			f.For = time.Second + time.Duration(random.Int64N(int64(4*time.Second))).Truncate(time.Millisecond)
		}
		faults = append(faults, f)
	}
	return faults
}

// schedule draws the faults of a run. Several may last at the same time, but each process has one at a time.
func schedule(seed uint64, broker string, inMongoDB bool, proxies, clients int) []fault {
	random := rand.New(rand.NewPCG(seed, 0))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(most-least))).Truncate(time.Millisecond)
	}
	processes := []string{"message-1", "message-2", "connect-1", "connect-2", "storage-1", "storage-2", "worker", "analytics", "webhook", "moderation", "route", "notify", broker}
	if inMongoDB {
		processes = append(processes, mongoServer)
	}
	busy := map[string]time.Duration{}
	var faults []fault
	for at := between(time.Second, 2*time.Second); ; at += between(chaosEvery/2, chaosEvery*3/2) {
		f := fault{At: at, For: between(time.Second, 6*time.Second)}
		if at+f.For > chaosTraffic-2*time.Second {
			return faults
		}
		switch draw := random.IntN(100); {
		case draw < 55:
			f.Harm = []harm{killed, killed, frozen, renewed}[random.IntN(4)]
			f.Target = processes[random.IntN(len(processes))]
			switch {
			case f.Target == mongoServer:
				f.Harm = frozen
			case f.Harm == killed:
				f.For = between(0, 3*time.Second)
			case f.Harm == renewed:
				f.For = 0
			}
		case draw < 61:
			f.Harm, f.Target = joined, []string{newcomer, recounting}[random.IntN(2)]
		case draw < 75:
			f.Harm, f.index = []harm{cutOff, slowed}[random.IntN(2)], random.IntN(proxies)
			f.Target = fmt.Sprintf("proxy %d", f.index)
		case draw < 92:
			f.Harm, f.index = []harm{dropped, stalled}[random.IntN(2)], random.IntN(clients)
			f.Target, f.bytes = fmt.Sprintf("client %d", f.index), 1+random.IntN(6000)
		case draw < 96:
			f.Harm, f.Target = garbled, "gateways"
		default:
			f.Harm, f.Target, f.index = repeated, "gateways", len(faults)
		}
		if busy[f.Target] > at {
			continue
		}
		// A process that starts is ready after a moment, Apache Kafka after some seconds.
		busy[f.Target] = at + f.For + 4*time.Second
		faults = append(faults, f)
	}
}
