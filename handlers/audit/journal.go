package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"millrace/events"
)

// journal is the log file. Batches of several partitions are appended concurrently and share the syncs.
type journal struct {
	path string
	lock *flock.Flock

	// Whoever takes both mutexes takes syncing before mu. The file is replaced under both.
	syncing sync.Mutex
	synced  int64 // of all bytes ever written, how many are known to be on the disk

	mu      sync.Mutex
	closed  bool
	file    *os.File    // nil while it cannot be used
	problem error       // why it cannot be used
	seen    os.FileInfo // the file that had the problem; nil if its state could not be read
	size    int64       // of the complete lines in the file
	written int64       // bytes ever written, to all files so far
	known   known
}

// known holds what the log contains, including the files before the current one: by partition the position of the last line
// in order, and the positions of the replayed lines.
type known struct {
	highest  map[int32]int64
	replayed map[events.Position]bool
}

func (k *known) has(e *entry) bool {
	if e.Replayed {
		return k.replayed[e.position()]
	}
	return e.Seq <= k.highest[e.Partition]
}

func (k *known) add(e *entry) {
	if e.Replayed {
		k.replayed[e.position()] = true
	} else {
		k.highest[e.Partition] = max(k.highest[e.Partition], e.Seq)
	}
}

func (e *entry) position() events.Position {
	return events.Position{Partition: e.Partition, Seq: e.Seq}
}

func newJournal(path string) *journal {
	return &journal{
		path: path, lock: flock.New(path + ".lock"),
		known: known{highest: make(map[int32]int64), replayed: make(map[events.Position]bool)},
	}
}

// append writes, with one write, the entries that the log does not contain yet. It returns how many bytes must be on the disk
// for all of the entries to be safe.
func (j *journal) append(entries []entry) (written int64, err error) {
	if err := j.current(); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return 0, j.problem
	}
	var lines bytes.Buffer
	var added []*entry
	batch := make(map[events.Position]bool, len(entries))
	for i := range entries {
		e := &entries[i]
		if j.known.has(e) || batch[e.position()] {
			continue
		}
		batch[e.position()] = true
		line, err := json.Marshal(e)
		if err != nil {
			return 0, fmt.Errorf("audit: %w", err)
		}
		lines.Write(append(line, '\n'))
		added = append(added, e)
	}
	if len(added) == 0 {
		return j.written, nil
	}
	// Write at the end of the complete lines, over whatever a failed write has left there.
	n, err := j.file.WriteAt(lines.Bytes(), j.size)
	if err != nil {
		return 0, err // the error names the operation and the file
	}
	j.size += int64(n)
	j.written += int64(n)
	for _, e := range added {
		j.known.add(e)
	}
	return j.written, nil
}

// sync brings the first written bytes of the log to the disk. Callers that wait meanwhile are all served by the next sync.
func (j *journal) sync(written int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= written {
		return nil
	}
	j.mu.Lock()
	file, all := j.file, j.written
	j.mu.Unlock()
	if err := file.Sync(); err != nil {
		return err
	}
	j.synced = all
	return nil
}

// current makes sure that the open file is the one at the path and is as long as this process left it. So it notices when
// logrotate has moved or truncated the file, and when somebody has mended a file that had a problem.
func (j *journal) current() error {
	j.mu.Lock()
	fine := j.looksFine()
	j.mu.Unlock()
	if fine {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.looksFine() { // somebody else has replaced it meanwhile
		return nil
	}
	return j.replace()
}

// looksFine needs mu: a file whose size was read before somebody else appended to it would look truncated.
func (j *journal) looksFine() bool {
	info, err := os.Stat(j.path)
	if j.file == nil {
		// A file that has not changed since still has its problem, and reading it again is expensive.
		return err == nil && j.seen != nil && os.SameFile(info, j.seen) && info.Size() == j.seen.Size() && info.ModTime().Equal(j.seen.ModTime())
	}
	mine, mineErr := j.file.Stat()
	return err == nil && mineErr == nil && os.SameFile(info, mine) && info.Size() >= j.size
}

// reopen goes on with the file that is at the path now. It is for a change that current cannot notice: a file that was mended
// in place.
func (j *journal) reopen() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.replace()
}

// replace brings the open file to the disk, closes it, and opens the file that is at the path now.
func (j *journal) replace() error {
	if j.file != nil {
		if err := j.file.Sync(); err != nil {
			return err
		}
		j.synced = j.written
		err := j.file.Close()
		j.file = nil
		if err != nil {
			return err
		}
	}
	j.seen = nil
	j.problem = j.open()
	return j.problem
}

// open takes the lock, once for all files at the path, and reads the file in order to continue after its last line.
func (j *journal) open() error {
	if j.closed {
		return fmt.Errorf("audit: %s: %w", j.path, os.ErrClosed)
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if locked, err := j.lock.TryLock(); err != nil || !locked {
		return errors.Join(fmt.Errorf("audit: %s is in use by another process", j.path), err)
	}
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	size, err := j.read(file)
	if err != nil {
		j.seen, _ = file.Stat()
		return errors.Join(fmt.Errorf("audit: %s: %w", j.path, err), file.Close())
	}
	j.file, j.size = file, size
	return nil
}

// read reads the file's lines and returns the length of the complete ones. It cuts off an incomplete last line, which a crash
// has left. Any other malformed line is an error, because nobody knows which record it hides.
func (j *journal) read(file *os.File) (size int64, err error) {
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, file.Truncate(size)
		}
		var e entry
		if err = errors.Join(err, json.Unmarshal(line, &e)); err != nil {
			return 0, fmt.Errorf("line at byte %d: %w", size, err)
		}
		j.known.add(&e)
		size += int64(len(line))
	}
}

// ready returns the reason why the file cannot be used, or nil if no problem is known.
func (j *journal) ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.problem
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	j.file, j.closed = nil, true
	return errors.Join(err, j.lock.Close())
}
