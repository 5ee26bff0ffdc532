package ctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/console"
)

func consoleCommand(s *session) *cobra.Command {
	l := &letters{}
	var address, who string
	var acts bool
	c := &cobra.Command{Use: "console", Short: "Serve the web console on this machine, until Ctrl-C", Args: noArgs,
		Long: `Serve the web console on this machine, until Ctrl-C. It has no login, so it serves clients of this
machine only, and refuses acts. With --acts, everybody who can log in to this machine can act, and the
audit log has --who as the name. From another machine, use a tunnel:

  ssh -L 7707:127.0.0.1:7707 HOST

For a console with your own login, mount package saga/console in your service.`}
	f := c.Flags()
	f.StringVar(&address, "listen", "127.0.0.1:7707", "`address` to serve on, of this machine; with port 0, a free one")
	f.BoolVar(&acts, "acts", false, "allow acts, under the name of --who")
	f.StringVar(&who, "who", "", "`name` in the audit log; defaults to $"+s.env("WHO")+", the profile, or user@host")
	if s.config.Broker != nil {
		l.addFlags(s, f)
	}
	c.RunE = s.runLong(func(ctx context.Context, _ []string) error {
		if err := checkLoopback(address); err != nil {
			return err
		}
		config := console.Config{Path: "/", Title: s.config.Name, Logger: slog.New(slog.NewTextHandler(s.config.Err, nil))}
		if acts {
			if who == "" {
				who = s.defaultWho()
			}
			config.Authorize = func(r *http.Request, _ console.Verb) (string, error) { return who, fromHere(r) }
		}
		if s.config.Broker != nil && natsAddress(s, l) != "" && streamOf(s, l) != "" {
			d, close, err := openLetters(ctx, s, l)
			if err != nil {
				return err
			}
			defer close()
			config.DeadLetters = map[string]*message.DeadLetters{streamOf(s, l): d}
		}
		handler, err := console.New(s.ops, config)
		if err != nil {
			return err
		}
		defer handler.Close()
		return serveConsole(ctx, s, address, handler)
	})
	return c
}

// serveConsole serves until ctx ends.
func serveConsole(ctx context.Context, s *session, address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	fmt.Fprintf(s.config.Out, "the console is at http://%s/, until Ctrl-C\n", listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(after)
}

// checkLoopback returns an error if other machines could reach an address.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return usage("--listen is %q, it must be an address such as 127.0.0.1:7707", address)
	case !isLoopback(host):
		return usage("--listen is %q, which other machines may reach: the console has no login here, so use 127.0.0.1 and a tunnel, or mount it in your service", address)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

var errNotFromHere = errors.New("this console serves clients of its own machine only")

// fromHere returns an error if a request is not of a client of this machine, which names the host
// as one of this machine. A name of somebody else may lead here, too.
func fromHere(r *http.Request) error {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(client) {
		return errNotFromHere
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		host = name
	}
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(header) != "" {
			return errNotFromHere
		}
	}
	if !isLoopback(host) {
		return errNotFromHere
	}
	return nil
}
