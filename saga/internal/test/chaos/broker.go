package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stream has the messages of the run. Its name is also the first token of their
// subjects.
const stream = "chaos"

// broker is a NATS server that is killed and started again.
type broker struct {
	*process
	address string
}

// newBroker builds the server at the version that go.mod names, and starts it.
func newBroker(ctx context.Context, g *processGroup) (*broker, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	program, config := filepath.Join(g.dir, "nats-server"), filepath.Join(g.dir, "nats.conf")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the NATS server: %w: %s", err, output)
	}
	// With sync_interval, a message is on the disk before it is acknowledged.
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, sync_interval: always }\n", address, filepath.Join(g.dir, "nats"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	b := &broker{address: address}
	b.process = g.process("nats", func() *exec.Cmd { return exec.Command(program, "-c", config) })
	return b, b.start(ctx)
}

// start returns when JetStream answers.
func (b *broker) start(ctx context.Context) error {
	if _, err := b.process.start(false); err != nil {
		return err
	}
	return eventually(ctx, time.Minute, "NATS answers", func() error {
		if err := b.failure(); err != nil {
			return err
		}
		js, err := b.connect()
		if err != nil {
			return err
		}
		defer js.Conn().Close()
		_, err = js.AccountInfo(ctx)
		return err
	})
}

// connect connects past the proxies.
func (b *broker) connect() (jetstream.JetStream, error) {
	conn, err := nats.Connect("nats://"+b.address, nats.Timeout(2*time.Second))
	if err != nil {
		return nil, err
	}
	return jetstream.New(conn)
}
