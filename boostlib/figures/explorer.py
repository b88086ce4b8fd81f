"""The interactive explorer: sliders over every parameter, the curves of four arms redrawn on each move.

Three curves are exact; `uniform`, whose exact law is too slow for a slider at k = m = 16, is one Monte Carlo run of 4,000 prompts
(standard error below .01). With transfer or interference they are the mean field over one skill, without `uniform`. Where no widgets
can run `Explorer.view` is the picture. Not covered: shared budgets.
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from boostlib.figures import ARM_COLOURS, ARMS, PERCENT
from boostlib.theory import BetaLaw, Dynamics
from boostlib.theory.maps import with_hopeless
from boostlib.theory.transfer import Transfer, by_skill

SHOWN = ("boosting", "uniform", "filter_only", "do_nothing")
SLIDERS = {  # start, least, most, step; whole numbers where the step is one
    "k": (8, 1, 16, 1),
    "m": (8, 0, 16, 1),
    "beta": (0.2, 0.01, 1, 0.01),
    "gamma_fp": (0.05, 0, 1, 0.01),
    "gamma_fn": (0.05, 0, 1, 0.01),
    "eta": (0.01, 0, 0.3, 0.005),
    "alpha": (0.33, 0, 1, 0.01),
    "transfer": (0, 0, 3, 0.05),
    "interference": (0, 0, 3, 0.05),
    "hopeless": (0.3, 0, 0.95, 0.05),
    "mean": (0.33, 0.02, 0.98, 0.01),
}


class Explorer:
    """``Explorer().panel()`` is the widget; ``view(**parameters)`` is the picture, PNG bytes, for the same parameters."""

    def __init__(self, rounds: int = 20) -> None:
        self.rounds = rounds
        figure = Figure(figsize=(6.2, 2.9), dpi=100, layout="none")
        self.canvas = FigureCanvasAgg(figure)
        ax = figure.add_axes((0.09, 0.16, 0.66, 0.78))
        ax.set(xlabel="round t", ylabel="accuracy E[p_t], %", xlim=(0, rounds), ylim=(0, 1.02))
        ax.yaxis.set_major_formatter(PERCENT)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        # drawn once; a redraw moves the lines and rewrites the names with their last values
        self.lines = {arm: ax.plot(np.zeros(rounds + 1), color=ARM_COLOURS[arm])[0] for arm in SHOWN}
        self.names = {a: figure.text(0.77, 0.88 - 0.09 * i, "", color=ARM_COLOURS[a]) for i, a in enumerate(SHOWN)}

    def curves(
        self, k=8, m=8, beta=0.2, gamma_fp=0.05, gamma_fn=0.05, eta=0.01, alpha=1 / 3, weak_data="A", hopeless=0.3, mean=0.33,
        transfer=0.0, interference=0.0,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """E[p_t] by arm; p_0 is 0 for the share ``hopeless`` of prompts, the others ~ BetaLaw(1.5 mean, 1.5 (1 - mean))."""
        d = Dynamics(k, beta, gamma_fp, gamma_fn, alpha, m, eta, weak_data=weak_data)
        p0 = with_hopeless(hopeless, BetaLaw(1.5 * mean, 1.5 * (1 - mean)), nodes=12)
        if transfer or interference:
            taught = Transfer(transfer=transfer, interference=interference)
            shown = [arm for arm in SHOWN if arm != "uniform"]
            return {arm: by_skill(d.arm(arm), taught, [p0], [1], self.rounds)[:, 0] for arm in shown}
        curves = {arm: d.arm(arm).exact(p0, self.rounds) for arm in SHOWN if arm != "uniform"}
        return curves | {"uniform": d.arm("uniform").simulate(p0, self.rounds, 1, 0, prompts=4000)[0]}

    def view(self, **parameters: object) -> bytes:
        curves = self.curves(**parameters)
        for arm, line in self.lines.items():
            line.set_visible(arm in curves)
            line.set_ydata(curves.get(arm, line.get_ydata()))
            self.names[arm].set_text(f"{ARMS[arm]}  {100 * curves[arm][-1]:.1f}%" if arm in curves else "")
        buffer = io.BytesIO()
        self.canvas.print_png(buffer)
        return buffer.getvalue()

    def panel(self):
        """Sliders beside the picture (ipywidgets)."""
        import ipywidgets as w

        controls = {
            name: (w.IntSlider if step == 1 else w.FloatSlider)(start, min=low, max=high, step=step, description=name)
            for name, (start, low, high, step) in SLIDERS.items()
        }
        controls["weak_data"] = w.Dropdown(options=["A", "all"], value="A", description="weak data")
        controls["hopeless"].description, controls["mean"].description = "share p0 = 0", "mean p0 > 0"
        image = w.Image(
            value=self.view(), format="png", layout=w.Layout(flex="0 1 620px", min_width="0", object_fit="contain")
        )

        def redraw(_=None) -> None:
            image.value = self.view(**{name: control.value for name, control in controls.items()})

        for control in controls.values():
            control.observe(redraw, names="value")
        sliders = w.VBox(
            list(controls.values()), layout=w.Layout(flex="0 0 auto")
        )  # where it is narrow the picture gives way
        return w.HBox([sliders, image])
