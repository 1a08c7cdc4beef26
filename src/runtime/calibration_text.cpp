#include "runtime/calibration_text.h"

namespace rhapsode::runtime {

const std::string_view kCalibrationText =
    R"(The ferry left the island a little after six, when the fog still lay in the sound and the lamps on the pier
looked like a row of small moons. Marta stood at the rail with the parcel under her coat. She had promised her
brother that she would post it in the city, and that she would not open it; the first promise was easy. Below her
the engine changed its note, the bow swung east, and the houses she had known all her life slid behind the mole
one after the other until only the church was left.

Question: Why does ice float on water?
Answer: Most substances become denser when they freeze, but water does not. In ice the molecules are held in an
open lattice by hydrogen bonds, so the same mass takes up about nine percent more room than in the liquid. Because
its density is lower, ice floats, and lakes freeze from the top down. Fish survive the winter in the water below,
which stays near four degrees Celsius.

def moving_average(values, width):
    """Mean of each run of `width` neighbouring values."""
    if width < 1 or width > len(values):
        raise ValueError("width must be between 1 and the number of values")
    total = sum(values[:width])
    means = [total / width]
    for i in range(width, len(values)):
        total += values[i] - values[i - width]
        means.append(total / width)
    return means

Question: Can I return an item that was on sale?
Answer: Yes. Items bought at a reduced price can be returned within 30 days, provided that they are unused and you
have the receipt. Refunds are made to the card that was used for the payment and usually take three to five
working days. Gift cards and opened software cannot be returned.

To bake a plain loaf you need:
1. 500 g of strong flour
2. 320 ml of lukewarm water
3. 7 g of dry yeast
4. 10 g of salt
Mix everything, knead the dough for ten minutes, and let it rise until it has doubled. Shape it, let it rest for
another half hour, then bake it at 230 degrees for 35 minutes.

In 1869 Dmitri Mendeleev arranged the 63 elements known at the time by atomic weight and by how they combine. He
left gaps where the pattern demanded an element that nobody had seen, and predicted the properties of three of
them. Gallium was found in 1875, scandium in 1879 and germanium in 1886, each close to what he had written.

The committee met twice in the spring. Costs had risen by 4.2 percent over the year, from 1,250,000 to 1,302,500,
while income from tickets fell slightly. Three proposals were discussed: to close on Mondays, to raise the price
for groups, and to ask the council for a larger grant. No decision was taken, but most members preferred the
second. "We cannot keep saving on heating," the director said afterwards, "the paintings will not forgive us."

Dear Mr. Okafor, thank you for your letter of 12 March. We are sorry to hear that the second delivery was damaged
too. A replacement has been sent today by courier, and you will not be charged for either shipment. Please keep
the broken parts until our driver has collected them. If anything else is missing, reply to this message and we
will take care of it at once. Yours sincerely, Elena Ruiz, Customer Service
)";

}  // namespace rhapsode::runtime
