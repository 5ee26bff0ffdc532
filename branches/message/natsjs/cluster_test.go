package natsjs_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// newCluster starts three servers and returns the address of one.
func newCluster(t *testing.T) (url string) {
	t.Helper()
	var ports []int
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		sagatest.Must(t, err)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		sagatest.Must(t, l.Close())
	}
	var servers []*server.Server
	for i, port := range ports {
		routes := ""
		for _, other := range ports {
			routes += fmt.Sprintf("nats://127.0.0.1:%d,", other)
		}
		s, err := server.NewServer(&server.Options{ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port},
			Routes: server.RoutesFromStr(routes[:len(routes)-1])})
		sagatest.Must(t, err)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	sagatest.Eventually(t, "the cluster has a leader", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && s.JetStreamIsCurrent() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	return servers[0].ClientURL()
}

// Ten changes of the leader of a stream with three replicas lose no message, store
// none twice, and leave nothing waiting.
func TestLeaderChanges(t *testing.T) {
	t.Parallel()
	conn := connectTo(t, newCluster(t))
	js := own(t, conn)
	b := newBroker(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const name = "LEADERS"
	s, err := b.OpenStream(ctx, broker.StreamConfig{Name: name, Subjects: []string{name + ".*"}, Replicas: 3})
	sagatest.Must(t, err)
	if s.Info().Replicas != 3 {
		t.Fatalf("%+v", s.Info())
	}
	sent := 0
	for range 10 {
		_, err := conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+name, nil, 5*time.Second)
		sagatest.Must(t, err)
		var batch []broker.Message
		for range 50 {
			batch = append(batch, broker.Message{ID: fmt.Sprint(sent), Subject: name + ".a", Data: fmt.Append(nil, sent)})
			sent++
		}
		// The first attempt ends early, as a caller's context may.
		short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		s.Publish(short, batch)
		stop()
		for open := batch; len(open) > 0; {
			sagatest.Must(t, ctx.Err())
			var left []broker.Message
			for i, r := range s.Publish(ctx, open) {
				if r.Err != nil {
					left = append(left, open[i])
				}
			}
			open = left
		}
	}
	sagatest.Eventually(t, "nothing waits", func() bool { return b.Pending() == 0 })
	ids := map[string]bool{}
	all := stored(t, js, name)
	for _, m := range all {
		ids[m.ID] = true
	}
	if len(all) != sent || len(ids) != sent {
		t.Errorf("%d are stored, with %d ids, of %d", len(all), len(ids), sent)
	}
}
