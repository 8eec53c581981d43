package audit

import (
	"bufio"
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
	path    string
	maxSize int64
	lock    *flock.Flock

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
	chain   chain       // of the last line, which may be in the file before
	links   *links      // what is being appended; kept for its buffer
	known   known
}

func newJournal(c Config) *journal {
	return &journal{path: c.Path, maxSize: c.MaxSize, lock: flock.New(c.Path + ".lock"), links: newLinks(), known: newKnown()}
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
	j.links.after(j.chain)
	if j.size == 0 && j.chain.hash != "" {
		if err := j.links.add(j.known.continuation(j.chain)); err != nil {
			return 0, fmt.Errorf("audit: %w", err)
		}
	}
	var added []*place
	batch := make(map[events.Position]bool, len(entries))
	for _, e := range entries {
		at := e.at()
		if j.known.has(at) || batch[at.position()] {
			continue
		}
		batch[at.position()] = true
		if err := j.links.add(e); err != nil {
			return 0, fmt.Errorf("audit: %w", err)
		}
		added = append(added, at)
	}
	if len(added) == 0 {
		return j.written, nil
	}
	// Write at the end of the complete lines, over whatever a failed write has left there.
	n, err := j.file.WriteAt(j.links.text.Bytes(), j.size)
	if err != nil {
		return 0, errors.Join(err, j.file.Truncate(j.size)) // the errors name the operation and the file
	}
	j.size += int64(n)
	j.written += int64(n)
	j.chain = j.links.end
	for _, at := range added {
		j.known.add(at)
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

// current makes sure that the open file is the one at the path, is as long as this process left it, and has room. So it
// notices when logrotate has moved or truncated the file, and when somebody has mended a file that had a problem.
func (j *journal) current() error {
	j.mu.Lock()
	fine := j.looksFine() && !j.full()
	j.mu.Unlock()
	if fine {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.looksFine() {
		if !j.full() { // somebody else has replaced it meanwhile
			return nil
		}
		if err := j.rotate(); err != nil {
			return err
		}
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

// open takes the lock, once for all files at the path, and reads the file in order to continue after its last line. It cuts
// off an incomplete last line, which a crash has left.
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
	if err == nil {
		err = file.Truncate(size)
	}
	if err == nil && size == 0 && j.chain.hash == "" {
		err = j.readBefore()
	}
	if err != nil {
		j.seen, _ = file.Stat()
		return errors.Join(fmt.Errorf("audit: %s: %w", j.path, err), file.Close())
	}
	j.file, j.size = file, size
	return nil
}

// read reads the file's lines and returns the length of the complete ones. A malformed line among them is an error, because
// nobody knows which record it hides.
func (j *journal) read(file io.Reader) (size int64, err error) {
	var end chain
	for lines := bufio.NewReader(file); ; {
		data, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// A file that ends before what this process has written last has lost its end. The number of the next line shows that.
			if size > 0 && end.number >= j.chain.number {
				j.chain = end
			}
			return size, nil
		}
		var l line
		if err == nil {
			l, err = parseLine(data)
		}
		if err == nil {
			err = j.known.addLine(&l)
		}
		if err != nil {
			return 0, fmt.Errorf("line at byte %d: %w", size, err)
		}
		end = end.follow(&l)
		size += int64(len(data))
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
