package webhook

import (
	"sync"

	"millrace/events"
)

// sent holds the records that the endpoint has got although records before them are still open. They come again when the router
// gives a bundle back, and need not be sent again then. In each partition they are at most as many as the router takes at once.
type sent struct {
	mu         sync.Mutex
	partitions map[int32]map[int64]bool
}

func newSent() *sent { return &sent{partitions: make(map[int32]map[int64]bool)} }

func (s *sent) has(pos events.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[pos.Partition][pos.Seq]
}

func (s *sent) add(pos events.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partitions[pos.Partition] == nil {
		s.partitions[pos.Partition] = make(map[int64]bool)
	}
	s.partitions[pos.Partition][pos.Seq] = true
}

// settled forgets a record that does not come again.
func (s *sent) settled(pos events.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partitions[pos.Partition], pos.Seq)
}

// forget forgets a partition that another process reads now.
func (s *sent) forget(partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partitions, partition)
}
