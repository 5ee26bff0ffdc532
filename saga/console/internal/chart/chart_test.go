package chart

import (
	"math"
	"testing"
)

func TestBars(t *testing.T) {
	t.Parallel()
	bars := Bars([]float64{0, 5, 10, 0.0001, 20}, 10)
	want := []float64{0, Height / 2, Height, 1, Height}
	for i, b := range bars {
		if b.H != want[i] || b.Y+b.H != Height || b.X < 0 || b.X+b.W > Width {
			t.Errorf("bar %d is %+v", i, b)
		}
	}
	on := Stacked([]float64{5}, []float64{2.5}, 10)
	if on[0].H != Height/4 || on[0].Y != Height/4 {
		t.Errorf("%+v", on[0])
	}
	if bars := Bars([]float64{1, math.NaN()}, 0); bars[0].H != 0 || len(Bars(nil, 1)) != 0 {
		t.Errorf("%+v", bars)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	if got := Line([]float64{0, 10, 5}, 10); got != "50,60 150,0 250,30" {
		t.Error(got)
	}
	if got := Line(nil, 10); got != "" {
		t.Error(got)
	}
	if Most(1, []float64{0.5}, nil) != 1 || Most(0, []float64{3}, []float64{4}) != 4 {
		t.Error("Most")
	}
}
