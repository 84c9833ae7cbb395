// Which part of the plane a canvas shows, and how hands move it.

export class View {
  constructor(canvas, ondraw) {
    Object.assign(this, { canvas, ondraw, zoom: 1, x: 0, y: 0, bounds: [-1, -1, 1, 1] });
    this.pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.ondraw()).observe(canvas);
  }

  // Shows all of these points.
  fit(points) {
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    this.bounds = points.length ? [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] : [-1, -1, 1, 1];
    this.reset();
  }

  reset() { this.to(1, 0, 0); }

  to(zoom, x, y) {
    this.zoom = Math.min(60, Math.max(1, zoom));
    const most = 0.5 - 0.5 / this.zoom;
    this.x = this.zoom === 1 ? 0 : Math.min(most, Math.max(-most, x));
    this.y = this.zoom === 1 ? 0 : Math.min(most, Math.max(-most, y));
    this.canvas.classList.toggle("zoomed", this.zoom > 1); // a finger scrolls the page until the map is zoomed in
    this.ondraw();
  }

  // Place of a point on the canvas in CSS pixels; one scale for both axes, so that distances look as they are.
  place([px, py]) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [x0, y0, x1, y1] = this.bounds;
    const margin = 22;
    const scale = Math.min((width - 2 * margin) / (x1 - x0 || 1), (height - 2 * margin) / (y1 - y0 || 1));
    const x = (px - (x0 + x1) / 2) * scale;
    const y = ((y0 + y1) / 2 - py) * scale;
    return [width / 2 + this.zoom * (x - this.x * width), height / 2 + this.zoom * (y - this.y * height)];
  }

  // Zoom by a factor that keeps the place (u, v), in CSS pixels, where it is.
  by(factor, u, v) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [across, down] = [(u ?? width / 2) / width - 0.5, (v ?? height / 2) / height - 0.5];
    const zoom = Math.min(60, Math.max(1, this.zoom * factor));
    this.to(zoom, this.x + across / this.zoom - across / zoom, this.y + down / this.zoom - down / zoom);
  }

  pan(dx, dy) {
    this.to(this.zoom, this.x - dx / this.zoom / this.canvas.clientWidth, this.y - dy / this.zoom / this.canvas.clientHeight);
  }

  down(event) {
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = false;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.offsetX, event.offsetY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (!other && far(before, now) < 3 && !this.moved) return; // a click of an unsteady hand
    if (!this.moved) this.canvas.setPointerCapture(event.pointerId);
    this.moved = true;
    if (other) this.by(far(now, other) / (far(before, other) || 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    else this.pan(now[0] - before[0], now[1] - before[1]);
    this.pointers.set(event.pointerId, now);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.canvas) return; // the page scrolls
    event.preventDefault();
    this.by(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }

  key(event) {
    const step = 40;
    const acts = {
      ArrowLeft: () => this.pan(step, 0), ArrowRight: () => this.pan(-step, 0), ArrowUp: () => this.pan(0, step),
      ArrowDown: () => this.pan(0, -step), "+": () => this.by(1.4), "=": () => this.by(1.4), "-": () => this.by(1 / 1.4), 0: () => this.reset(),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }
}
