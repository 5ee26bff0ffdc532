package message

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ensureStream creates the stream, or checks that the one that is there carries
// the subjects. It returns how the stream is configured.
func ensureStream(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	stream, err := js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, config)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was faster
		stream, err = js.Stream(ctx, config.Name)
	}
	if err != nil {
		return config, fmt.Errorf("creating or reading it: is the NATS server running, with JetStream: %w", err)
	}
	found := stream.CachedInfo().Config
	return found, checkCarries(found, config.Subjects)
}

func checkCarries(stream jetstream.StreamConfig, subjects []string) error {
	for _, subject := range subjects {
		if !carried(stream.Subjects, subject) {
			return fmt.Errorf("%w: it carries %s, not %s: change the stream or the configuration", ErrInvalid, strings.Join(stream.Subjects, ", "), subject)
		}
	}
	return nil
}

// carried reports whether one of the patterns covers the subject, which may be
// a pattern itself.
func carried(patterns []string, subject string) bool {
	for _, pattern := range patterns {
		if covers(strings.Split(pattern, "."), strings.Split(subject, ".")) {
			return true
		}
	}
	return false
}

func covers(pattern, subject []string) bool {
	for i, token := range pattern {
		switch {
		case token == ">":
			return len(subject) > i
		case i >= len(subject) || subject[i] == ">":
			return false
		case token != "*" && token != subject[i]:
			return false
		}
	}
	return len(pattern) == len(subject)
}
