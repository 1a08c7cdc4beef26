#include "cli/fit_view.h"

#include <fmt/format.h>

#include <algorithm>

namespace rhapsode::cli {
namespace {

using plan::Bits;

constexpr int kBarWidth = 20;

std::string name_of(Bits bits, const runtime::Fit& fit) {
  if (bits == Bits::plain) return std::string(torch_name(fit.plan.dtype));
  return bits == Bits::four ? "4bit" : "8bit";
}

std::string loss_text(const std::optional<double>& loss) {
  return loss ? fmt::format("{:.6f}", *loss) : "";
}

OrderedJson by_format(const runtime::Fit& fit, const std::array<std::optional<double>, 3>& loss) {
  OrderedJson out;
  for (const Bits bits : plan::kAllBits) {
    const std::optional<double>& value = loss[plan::index_of(bits)];
    out[name_of(bits, fit)] = value ? OrderedJson(*value) : OrderedJson(nullptr);
  }
  return out;
}

// One row a group: what it is held in, its bytes, what that loses alone, and a bar of what 4 bits would.
std::string group_rows(const runtime::Fit& fit, const Style& style) {
  size_t width = 0;
  double most = 0;
  for (const runtime::FitGroup& group : fit.groups) {
    width = std::max(width, group.name.size());
    most = std::max(most, group.loss[plan::index_of(Bits::four)].value_or(0));
  }
  std::string text = style.dim(fmt::format("{:{}}  {:>8}  {:>12}  {:>9}  {}\n", "matrices of", width, "as",
                                           "bytes", "KL alone", "KL alone in 4bit"));
  for (const runtime::FitGroup& group : fit.groups) {
    const size_t chosen = plan::index_of(group.bits);
    const double four = group.loss[plan::index_of(Bits::four)].value_or(0);
    const int full = most > 0 ? static_cast<int>(std::max(four, 0.0) / most * kBarWidth + 0.5) : 0;
    std::string bar;
    for (int i = 0; i < full; ++i) bar += "█";
    const std::string name = fmt::format("{:>8}", name_of(group.bits, fit));
    text += fmt::format("{:{}}  {}  {:>12}  {:>9}  {}\n", group.name, width,
                        group.bits == Bits::four    ? name
                        : group.bits == Bits::eight ? style.cyan(name)
                                                    : style.green(name),
                        group.bytes[chosen], loss_text(group.loss[chosen]), style.blue(bar));
  }
  return text;
}

std::string total_row(const std::string& name, uint64_t total, uint64_t weights,
                      const std::optional<double>& divergence, bool fits) {
  return fmt::format("{:10}  {:>14}  {:>14}  {:>11}{}\n", name, total, weights,
                     divergence ? loss_text(divergence) : "-", fits ? "" : "  does not fit");
}

}  // namespace

OrderedJson fit_json(const runtime::Fit& fit, const FitView& view) {
  OrderedJson out;
  out["bytes"] = fit.total_bytes;
  out["formats"] = fit.formats;
  out["budget_bytes"] = view.budget_bytes;
  out["weights_bytes"] = fit.weights_bytes;
  out["kl"] = fit.divergence;
  out["tokens"] = view.tokens;
  out["set"] = OrderedJson::array();
  for (const auto& [key, value] : view.keys) out["set"].push_back(key + "=" + value);
  out["uniform"] = OrderedJson::array();
  for (const runtime::FitUniform& row : fit.uniforms)
    out["uniform"].push_back({{"format", name_of(row.bits, fit)},
                              {"total_bytes", row.total_bytes},
                              {"weights_bytes", row.weights_bytes},
                              {"fits", row.fits},
                              {"kl", row.divergence ? OrderedJson(*row.divergence) : OrderedJson(nullptr)}});
  out["groups"] = OrderedJson::array();
  for (const runtime::FitGroup& group : fit.groups)
    out["groups"].push_back({{"name", group.name},
                             {"format", name_of(group.bits, fit)},
                             {"bytes", group.bytes[plan::index_of(group.bits)]},
                             {"kl", by_format(fit, group.loss)}});
  return out;
}

std::string fit_text(const runtime::Fit& fit, const FitView& view, const Style& style) {
  std::string text = group_rows(fit, style) + "\n";
  text += style.dim(fmt::format("{:10}  {:>14}  {:>14}  {:>11}\n", "", "total bytes", "weights", "KL, nats"));
  for (const runtime::FitUniform& row : fit.uniforms)
    text += total_row(name_of(row.bits, fit), row.total_bytes, row.weights_bytes, row.divergence, row.fits);
  text += style.bold(total_row("recipe", fit.total_bytes, fit.weights_bytes, fit.divergence, true));
  text += fmt::format("{:10}  {:>14}\n\n", "--fit", view.budget_bytes);
  for (const auto& [key, value] : view.keys) text += fmt::format("{}: {}\n", key, value);
  return text;
}

}  // namespace rhapsode::cli
