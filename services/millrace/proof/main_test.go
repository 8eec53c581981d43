package proof

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The tests mostly wait: for brokers to start and for members to join. So more of them run at once than there are cores,
	// unless -parallel is set.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			_ = os.RemoveAll(built.dir)
			os.Exit(code)
		}),
		// toxiproxy leaves a goroutine that waits to write to a broken connection.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"))
}

// built is the binary that all tests of a run share.
var built build

type build struct {
	once sync.Once
	dir  string
	err  error
}

// path returns the path of millrace. The first process that a test starts builds it, with the race detector if the tests have
// it.
func (b *build) path() (string, error) {
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "millrace"); b.err != nil {
			return
		}
		args := []string{"build", "-o", b.dir}
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = append(args, "-race")
		}
		said, err := exec.CommandContext(context.Background(), "go", append(args, "millrace/services/millrace")...).CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build millrace: %w: %s", err, said)
		}
	})
	return filepath.Join(b.dir, "millrace"), b.err
}
